"""A closer look at trained parameters, against the same things worked out by hand."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from autometa.engine.evaluate import meta_evaluate
from autometa.episodes.task import Task, TaskSource
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSIFICATION, REGRESSION, Learner, Params, class_means, under
from autometa.learners.inner_loop import GradientLearner, weights_of
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.platipus import sample
from autometa.learners.rates import RateVector
from autometa.testing.small import EasyFamily, small_encoder
from autometa.trial.insight.answers import Answers, Exam, answers, calibration
from autometa.trial.insight.episodes import EASIEST, HARDEST, episodes, extremes
from autometa.trial.insight.rates import rates
from autometa.trial.insight.steps import affordable, course, own_steps, points

TASKS, BATCH, OWN = 7, 3, 2
RATES = RateVector("refined", "layer", ((0.05, 0.1, 0.15), (0.2, 0.25, 0.3)))
GRADIENT = [name for name in LEARNERS if issubclass(LEARNERS.load(name), GradientLearner)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exam_of(source: TaskSource, tasks: int = TASKS) -> Exam:
    return Exam(source, tasks, generator, BATCH, "loop")


def tasks_of(exam: Exam) -> list[Task]:
    return [task for batch in exam.drawn() for task in batch.unbind()]


def made(name: str, problem: str = CLASSIFICATION, **hyper: Any) -> tuple[Learner[Any], Params]:
    """A learner with random meta-parameters, its rates all different."""
    cls = LEARNERS.load(name)
    learner = cls(small_encoder(problem), cls.hyper_type(**hyper), problem)
    params = learner.init(1 if problem == REGRESSION else 3, generator(1))
    if "inner_lr" in params:
        noise = torch.rand(params["inner_lr"].shape, generator=generator(2))
        params["inner_lr"] = params["inner_lr"] * (1 + noise)
    return learner, params


def probabilities(logits: torch.Tensor) -> np.ndarray[Any, Any]:
    powers = np.exp(logits.double().numpy())
    return powers / powers.sum(1, keepdims=True)


def ece_by_hand(confidence: Sequence[float], correct: Sequence[float]) -> float:
    """15 equal bins (m/15, (m + 1)/15]; Σ |accuracy − confidence| · share (Guo et al. 2017)."""
    gap = 0.0
    for m in range(15):
        inside = [i for i, p in enumerate(confidence) if m / 15 < p <= (m + 1) / 15]
        right, told = sum(correct[i] for i in inside), sum(confidence[i] for i in inside)
        gap += abs(right - told) / len(confidence)
    return gap


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_every_query_has_its_confidence_and_whether_it_was_right(strategy: str) -> None:
    learner, params = made("protonet")
    exam = exam_of(EasyFamily(CLASSIFICATION))
    exam = Exam(exam.source, exam.tasks, exam.begin, exam.batch, strategy)
    found = answers(learner, params, exam)
    told = calibration(found)
    assert told is not None
    sure, right = list[float](), list[float]()
    for index, task in enumerate(tasks_of(exam)):
        fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
        logits = learner.predict(params, fast, task.query_x).detach()
        known = probabilities(logits)
        correct = (known.argmax(1) == task.query_y.numpy()).astype(float)
        assert found.predictions[index].tolist() == known.argmax(1).tolist()
        assert told["confidence"][index] == pytest.approx(known.max(1), abs=2e-4)
        assert told["correct"][index] == correct.tolist()
        assert float(found.scores[index]) == pytest.approx(correct.mean())
        expected = -np.log(known[np.arange(len(known)), task.query_y.numpy()]).mean()
        assert float(found.losses[index]) == pytest.approx(expected, rel=1e-3)
        sure, right = [*sure, *known.max(1)], [*right, *correct]
    assert len(sure) == TASKS * 15
    assert told["ece"] == pytest.approx(ece_by_hand(sure, right), abs=1e-4)
    assert told["ece"] > 0.01


def test_a_regression_isnt_calibrated() -> None:
    learner, params = made("maml", REGRESSION)
    found = answers(learner, params, exam_of(EasyFamily(REGRESSION)))
    assert calibration(found) is None
    assert found.predictions.shape == (TASKS, 5, 1)


def network(weights: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The small network for numbers: two tanh layers and a head."""
    first, first_bias, second, second_bias, head, head_bias = weights
    hidden = torch.tanh(torch.tanh(x @ first.T + first_bias) @ second.T + second_bias)
    return hidden @ head.T + head_bias


def test_the_course_of_maml_is_its_loop_written_by_hand() -> None:
    """From no step to five more than its two; those beyond go by the second row of rates again."""
    learner = MAML(
        small_encoder(REGRESSION), MAMLHyper(inner_steps=OWN, inner_lr=RATES), REGRESSION
    )
    params = learner.init(1, generator(1))
    exam = exam_of(EasyFamily(REGRESSION))
    found = course(learner, params, exam)
    assert found is not None
    assert (found["own"], found["tasks"]) == (OWN, TASKS)
    assert [each["steps"] for each in found["points"]] == [0, 1, 2, 3, 4, 5, 6, 7]
    errors = np.zeros((8, TASKS))
    for index, task in enumerate(tasks_of(exam)):
        weights = [v.clone().requires_grad_() for n, v in params.items() if n != "inner_lr"]
        for step in range(8):
            output = network(weights, task.query_x)
            errors[step, index] = F.mse_loss(output, task.query_y).item()
            row = params["inner_lr"][min(step, 1)].repeat_interleave(2)
            loss = F.mse_loss(network(weights, task.support_x), task.support_y)
            moved = zip(weights, torch.autograd.grad(loss, weights), row, strict=True)
            weights = [(w - rate * g).detach().requires_grad_() for w, g, rate in moved]
    assert [p["mean"] for p in found["points"]] == pytest.approx(errors.mean(1), rel=1e-4)
    halves = 1.96 * errors.std(1, ddof=1) / math.sqrt(TASKS)
    assert [p["ci95"] for p in found["points"]] == pytest.approx(halves, rel=1e-4)
    assert errors.mean(1)[2] < errors.mean(1)[0], "the steps do something"


def test_these_learners_take_gradient_steps() -> None:
    assert set(GRADIENT) == {
        *("alfa", "anil", "bmaml", "fomaml", "imaml", "maml", "mamlpp", "meta_lstm", "metasgd"),
        *("platipus", "protomaml", "reptile", "scratch"),
    }


@pytest.mark.parametrize("name", GRADIENT)
def test_the_course_of_a_learner_passes_through_its_own_score(name: str) -> None:
    field = "evaluation_steps" if name == "reptile" else "inner_steps"
    learner, params = made(name, **{field: OWN})
    assert own_steps(learner) == OWN
    exam = exam_of(EasyFamily(CLASSIFICATION))
    found = course(learner, params, exam)
    assert found is not None
    means = {each["steps"]: each["mean"] for each in found["points"]}
    assert list(means) == list(range(OWN + 6))
    own = meta_evaluate(
        learner,
        params,
        source=exam.source,
        tasks=TASKS,
        generator=generator(),
        batch=BATCH,
        strategy="loop",
    )
    assert means[OWN] == pytest.approx(own.mean, abs=1e-9)
    assert means[0] == pytest.approx(untouched(name, learner, params, tasks_of(exam)), abs=1e-6)


def untouched(name: str, learner: Any, params: Params, tasks: list[Task]) -> float:
    """Accuracy before any step, from what each method says it begins with."""
    weights, scores = weights_of(params), []
    for task in tasks:
        if name == "protomaml":  # the nearest class mean, in Euclidean distance
            features = [
                learner.encoder(under("encoder", params), x) for x in (task.support_x, task.query_x)
            ]
            centres = class_means(features[0], task.support_y, task.ways)
            output = -torch.cdist(features[1], centres)
        elif name == "bmaml":  # its particles' mean probability
            each = [
                learner.network({n: v[m] for n, v in weights.items()}, task.query_x).softmax(-1)
                for m in range(learner.hyper.particles)
            ]
            output = torch.stack(each).mean(0)
        elif name == "platipus":  # its initializations are drawn around one step of γ
            mean = {n: v.clone().requires_grad_() for n, v in weights.items()}
            loss = F.cross_entropy(learner.network(mean, task.support_x), task.support_y)
            slopes = dict(zip(mean, torch.autograd.grad(loss, list(mean.values())), strict=True))
            moved = {n: v.detach() - params["gamma_p"] * slopes[n] for n, v in mean.items()}
            widths = under("log_variance", params)
            drawn = [sample(moved, widths, draw) for draw in params["draws"]]
            each = [learner.network(theta, task.query_x).softmax(-1) for theta in drawn]
            output = torch.stack(each).mean(0)
        elif name == "mamlpp":
            output = learner.forward(params, weights, task.query_x, 0)[0]
        else:
            output = learner.network(weights, task.query_x)
        scores.append((output.argmax(-1) == task.query_y).double().mean().item())
    return float(np.mean(scores))


def test_no_course_without_gradient_steps() -> None:
    learner, params = made("protonet")
    assert own_steps(learner) is None
    assert course(learner, params, exam_of(EasyFamily(CLASSIFICATION))) is None


def test_of_many_steps_some_are_left_out() -> None:
    assert points(1) == [0, 1, 2, 3, 4, 5, 6]
    assert points(15) == list(range(21))
    assert len(points(100)) <= 21
    assert {0, 100, 105} <= set(points(100))
    assert affordable(points(1), 200) == 200
    assert affordable(points(5), 200) == 80
    assert affordable(points(5), 30) == 30
    assert affordable(points(100), 200) == 20


def test_scores_that_are_no_numbers_are_none() -> None:
    learner, params = made("maml", REGRESSION, inner_lr=RateVector("fixed", "scalar", ((1e30,),)))
    found = course(learner, params, exam_of(EasyFamily(REGRESSION)))
    assert found is not None
    assert found["points"][0]["mean"] > 0
    assert found["points"][-1]["mean"] is None


def test_the_rates_are_those_of_the_parameters_with_the_layers_names() -> None:
    learner, params = made("maml", inner_steps=OWN, inner_lr=RATES)
    assert rates(learner, params) == {
        "mode": "refined",
        "groups": "layer",
        "columns": ["conv1", "conv2", "head"],
        "rows": params["inner_lr"].tolist(),
        "mean": False,
    }


def test_mamlpp_and_alfa_learn_rates_by_layer() -> None:
    for name in ("mamlpp", "alfa"):
        learner, params = made(name, inner_steps=OWN)
        found = rates(learner, params)
        assert found is not None
        assert (found["mode"], found["columns"]) == ("learned", ["conv1", "conv2", "head"])
        assert found["rows"] == params["inner_lr"].tolist()


def test_rates_of_single_weights_are_told_as_the_layers_means() -> None:
    learner, params = made("metasgd")
    fill = {"conv1": 0.1, "conv2": 0.2, "head": 0.3}
    for name in [name for name in params if name.startswith("rates.")]:
        layer = name.removeprefix("rates.").removeprefix("encoder.").partition(".")[0]
        params[name] = torch.full_like(params[name], fill[layer])
    params["rates.head.bias"] = torch.zeros(3)  # of 3 · 24 weights and 3 biases
    found = rates(learner, params)
    assert found is not None
    assert found["mean"]
    assert found["rows"][0] == pytest.approx([0.1, 0.2, 0.3 * 72 / 75])


def test_a_table_of_another_shape_is_no_rate_vector() -> None:
    learner, params = made("maml", inner_lr=RATES, inner_steps=OWN)
    assert rates(learner, params | {"inner_lr": torch.ones(OWN, 4)}) is None
    assert rates(learner, params | {"inner_lr": torch.tensor(0.1)}) is None


@pytest.mark.parametrize("name", ["protonet", "imaml", "reptile"])
def test_no_rates_without_a_vector(name: str) -> None:
    assert rates(*made(name)) is None


def test_hard_is_what_scores_low_and_of_equals_what_loses_more() -> None:
    scores = torch.tensor([0.5, 0.2, 0.9, 0.2, 0.9], dtype=torch.float64)
    losses = torch.tensor([1.0, 1.0, 0.4, 2.0, 0.3], dtype=torch.float64)
    found = Answers(scores, losses, torch.zeros(5, 1))
    expected = [(HARDEST, 3), (HARDEST, 1), (EASIEST, 4), (EASIEST, 2)]
    assert extremes(found, CLASSIFICATION) == expected
    errors = Answers(scores, scores, torch.zeros(5, 1))
    assert {i for kind, i in extremes(errors, REGRESSION) if kind == HARDEST} == {2, 4}
    alone = Answers(scores[:1], losses[:1], torch.zeros(1, 1))
    assert extremes(alone, CLASSIFICATION) == []


class Grey:
    """Tasks whose images are of one grey each: support 0.1, 0.2, 0.3 …, queries from 0.5 on."""

    def __init__(self, size: int, channels: int = 1, ways: int = 2) -> None:
        self.shape, self.ways = (channels, size, size), ways

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        def half(count: int, start: float) -> torch.Tensor:
            grey = start + 0.1 * torch.arange(count)
            return grey.view(1, -1, 1, 1, 1).expand(tasks, count, *self.shape)

        y = torch.arange(self.ways).repeat(tasks, 1)
        queries = torch.tensor([0, 1, 1, 0]).repeat(tasks, 1)  # not class after class
        return Task(half(self.ways, 0.1), y, half(4, 0.5), queries, self.ways)


def pixels(sheet: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["png"]))))


@pytest.mark.parametrize(("size", "shown"), [(8, 8), (84, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_episodes_images_are_a_sheet_of_tiles(size: int, shown: int, channels: int) -> None:
    said = torch.tensor([[0, 1, 0, 1]] * 4)
    truth = torch.tensor([0, 1, 1, 0])
    scores = torch.tensor([0.5, 0.4, 0.3, 0.2], dtype=torch.float64)
    found = Answers(scores, 1 - scores, said)
    told = episodes(found, exam_of(Grey(size, channels), 4), CLASSIFICATION)
    assert [(each["kind"], each["task"]) for each in told] == [
        *((HARDEST, 3), (HARDEST, 2), (EASIEST, 0), (EASIEST, 1))
    ]
    assert told[0]["score"] == 0.2
    assert (said[0] == truth).tolist() == [True, True, False, False]
    assert told[0]["classes"] == [
        {"queries": 2, "right": 1, "taken": [(1, 1)]},
        {"queries": 2, "right": 1, "taken": [(0, 1)]},
    ]
    sheet = told[0]["sheet"]
    assert (sheet["height"], sheet["width"], sheet["shots"]) == (shown, shown, 1)
    assert sheet["rows"] == [[0, 1], [1, 0]], "class 0 has queries 0 and 3, class 1 has 1 and 2"
    image = pixels(sheet)
    assert image.shape == (2 * shown, 3 * shown, *([3] if channels == 3 else []))
    middles = image[shown // 2 :: shown, shown // 2 :: shown]
    greys = np.array([[0.1, 0.5, 0.8], [0.2, 0.6, 0.7]])
    expected = np.round(255 * (greys[..., None] if channels == 3 else greys))
    assert np.abs(middles - expected).max() <= 1


def test_an_episode_of_numbers_has_its_points() -> None:
    learner, params = made("maml", REGRESSION)
    exam = exam_of(EasyFamily(REGRESSION))
    found = answers(learner, params, exam)
    hardest, *_ = episodes(found, exam, REGRESSION)
    task = tasks_of(exam)[hardest["task"]]
    assert hardest["score"] == found.scores.max()
    assert [p[0] for p in hardest["support"]] == task.support_x[:, 0].tolist()
    x, y, predicted = (np.array(column) for column in zip(*hardest["queries"], strict=True))
    assert x.tolist() == task.query_x[:, 0].tolist()
    assert ((predicted - y) ** 2).mean() == pytest.approx(hardest["score"], rel=1e-4)
