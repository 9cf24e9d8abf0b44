"""MAML++: MAML with six remedies for what makes it unstable, slow and hard to tune.

A. Antoniou, H. Edwards, A. Storkey: "How to train your MAML", ICLR 2019,
https://arxiv.org/abs/1810.09502

Section 4 names them, and each is a switch here; with all of them off this is second-order MAML.
The outer loss weights the query loss after every inner step (MSL, equation 4) and moves the weight
to the last step; meta-training begins without second derivatives (DA); batch normalisation keeps
running statistics (BNRS) and weights and biases (BNWB) for every inner step; the outer loop learns
an inner rate for every layer and step (LSLR); the outer rate falls along a cosine (CA).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from .base import (
    SCHEDULES,
    START,
    Hyper,
    Moment,
    Params,
    Task,
    prefixed,
    under,
)
from .batch_norms import batch_norms, watched
from .domains import Choice, Float, Rates, hyper
from .gradients import constant, gradient
from .inner_loop import (
    INNER_LR,
    InnerLoopHyper,
    SteppedLearner,
    check_share,
    descend,
    weights_of,
)
from .rates import RateVector, step_rows

SWITCH = Choice((False, True))
MOMENTUM = 0.1  # of the running statistics, as in the reference code
EARLY_IMPORTANCE = 0.03  # the least that it leaves an early step of its first importance


@dataclass(frozen=True)
class MAMLPPHyper(InnerLoopHyper):
    """Defaults are the paper's for Omniglot: all remedies, 5 steps that start at 0.1."""

    meta_schedule: str = hyper("cosine", SCHEDULES, "course of the outer rate; CA is cosine")
    inner_lr: RateVector = hyper(  # noqa: RUF009 (a rate vector is frozen)
        RateVector("fixed", "scalar", ((0.1,),)),
        Rates(1e-3, 1.0, groups=("scalar",), modes=("searched",)),
        "rate of each inner step, where it starts if learned_rates",
    )
    learned_rates: bool = hyper(True, SWITCH, "LSLR: whether to learn a rate per layer and step")
    multi_step_loss: bool = hyper(True, SWITCH, "MSL: whether early steps count at first")
    multi_step_share: float = hyper(
        0.1,
        Float(0.05, 1.0),
        "share of the budget over which early steps lose their weight",
        batched=False,
    )
    order_annealing: bool = hyper(True, SWITCH, "DA: whether training begins in first order")
    first_order_share: float = hyper(
        1 / 3, Float(0.1, 0.9), "share of the budget in first order", batched=False
    )
    running_statistics: bool = hyper(
        True,
        SWITCH,
        "BNRS: whether to normalise by running statistics of each step, not by the batch",
    )
    per_step_affine: bool = hyper(
        True, SWITCH, "BNWB: whether each step has batch-norm weights, which no step adapts"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.multi_step_share <= 1:
            raise ValueError(
                f"multi_step_share is {self.multi_step_share}, but must be in (0, 1]: "
                "to do without, turn multi_step_loss off"
            )
        check_share("first_order_share", self.first_order_share)


@dataclass(frozen=True)
class MAMLPP(SteppedLearner[MAMLPPHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways]; ``inner_lr``.

    BNWB takes the weights of batch-norm layers out of ``encoder.*``, and has them as ``affine.*``,
    [steps, C]; BNRS has ``running.*``, [steps, C], which the outer optimizer doesn't touch. The
    steps are 0…n−1; a pass of the queries after update i is of step i, as in the reference code.
    On a new task steps beyond the last have what it has.
    """

    paper: ClassVar[str] = "Antoniou, Edwards, Storkey 2019, arXiv:1810.09502"
    hyper_type: ClassVar[type[Hyper]] = MAMLPPHyper
    recomputes: ClassVar[bool] = True

    @property
    def rates(self) -> RateVector:
        """As given, or with LSLR learned, a column per layer.

        The reference code has one per parameter tensor; a layer's is what the paper describes.
        """
        if not self.hyper.learned_rates:
            return self.hyper.inner_lr
        groups = self.hyper.inner_lr.groups
        return replace(
            self.hyper.inner_lr, mode="learned", groups="layer" if groups == "scalar" else groups
        )

    def init(self, ways: int, generator: torch.Generator) -> Params:
        steps = self.hyper.inner_steps
        params = self.network_parameters(ways, generator)
        for layer in batch_norms(self.encoder.module):
            if self.hyper.running_statistics:
                channels = params[f"encoder.{layer}.weight"].shape[0]
                params[f"running.{layer}.mean"] = torch.zeros(steps, channels)
                params[f"running.{layer}.variance"] = torch.ones(steps, channels)
            if self.hyper.per_step_affine:
                for name in (f"{layer}.weight", f"{layer}.bias"):
                    params[f"affine.{name}"] = params.pop(f"encoder.{name}").repeat(steps, 1)
        return params | {INNER_LR: self.rates.tensor(steps, self.rated)}

    def learned(self, params: Params) -> frozenset[str]:
        fixed = {name for name in params if name.startswith("running.")}
        return frozenset(params) - fixed - (set() if self.rates.is_learned else {INNER_LR})

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights after the last step, without those that BNWB keeps from adapting.

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        loop = self.inner_loop(params, support_x, support_y, through=True)
        return list(loop)[-1][0]

    def predict(self, params: Params, fast: Params, query_x: Tensor) -> Tensor:
        return self.forward(params, fast, query_x, self.hyper.adaptation_steps - 1)[0]

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        loss, (prediction, _) = self.observed_objective(params, task, moment)
        return loss, prediction

    def meta_grad(
        self, params: Params, task: Task, moment: Moment = START
    ) -> tuple[Params, dict[str, Tensor]]:
        """Also ``observed.*`` among the metrics: what :meth:`absorb` averages."""
        point, rest = self.parted(params)
        grads, loss, (prediction, observed) = gradient(
            lambda learned: self.observed_objective(rest | learned, task, moment),
            point,
        )
        score = self.score(prediction, task.query_y)
        return grads, {"loss": loss, "score": score, **prefixed("observed", observed)}

    def absorb(self, params: Params, metrics: dict[str, Tensor]) -> Params:
        """r ← (1 − m) r + m s, once a meta-iteration, with the mean s over its tasks.

        The reference code does so at every pass of every task, which makes its average shorter.
        """
        running, observed = under("running", params), under("observed", metrics)
        return prefixed(
            "running", {name: r.lerp(observed[name], MOMENTUM) for name, r in running.items()}
        )

    def observed_objective(
        self, params: Params, task: Task, moment: Moment
    ) -> tuple[Tensor, tuple[Tensor, Params]]:
        """Equation 4, Σ v_i L_query(θ_i); the last predictions, and the statistics [steps, C].

        The statistics of a step are the mean of its pass of the support set and, where it counts,
        of the queries.
        """
        self.check_ways(params, task.ways)
        importance = self.importance(moment.progress)
        support = task.support_x, task.support_y
        loop = self.at(moment).inner_loop(params, *support, through=self.through(moment))
        forward = self.spared(self.forward)
        losses, observed = [], []
        prediction = task.query_x
        for step, (weights, seen) in enumerate(loop):
            if importance[step] > 0:
                prediction, late = forward(params, weights, task.query_x, step)
                losses.append(importance[step] * self.loss(prediction, task.query_y))
                seen = {name: (value + late[name]) / 2 for name, value in seen.items()}
            observed.append(seen)
        statistics = {name: torch.stack([seen[name] for seen in observed]) for name in observed[0]}
        return torch.stack(losses).sum(), (prediction, statistics)

    def stage(self, progress: float) -> Hashable:
        through = self.through(Moment(progress, torch.empty(0)))
        return super().stage(progress), through, tuple(self.importance(progress))

    def importance(self, progress: float) -> list[float]:
        """The weights v_i of equation 4, by the formula of the reference code; their sum is 1.

        They start equal, the early ones fall linearly, and after ``multi_step_share`` (there 10 of
        100 epochs) the last step is all that counts. There t goes by epochs, here continuously.
        """
        early = self.hyper.inner_steps - 1
        t = progress / self.hyper.multi_step_share
        if not self.hyper.multi_step_loss or t >= 1:
            return [0.0] * early + [1.0]
        each = max(1 - t, EARLY_IMPORTANCE) / self.hyper.inner_steps
        return [each] * early + [1 - early * each]

    def through(self, moment: Moment) -> bool:
        """Whether to differentiate through the inner gradients yet.

        The paper begins after 50 of its 150 epochs; the reference code's configurations, with 100
        epochs, do so from the start.
        """
        return not self.hyper.order_annealing or moment.progress >= self.hyper.first_order_share

    def inner_loop(
        self, params: Params, x: Tensor, y: Tensor, *, through: bool
    ) -> Iterator[tuple[Params, Params]]:
        """After each update the weights, and the statistics that its gradient's pass has seen."""
        columns = self.columns(self.rates.groups)
        others = params if through else constant(params)

        def update(
            weights: Params, others: Params, rates: Tensor, x: Tensor, y: Tensor, step: int
        ) -> tuple[Params, Params]:
            def support_loss(weights: Params) -> tuple[Tensor, Params]:
                output, seen = self.forward(others, weights, x, step)
                return self.loss(output, y), seen

            grads, _, seen = gradient(support_loss, weights, through=through)
            return descend(weights, grads, rates, columns), seen

        once = self.spared(update) if through else update
        weights = weights_of(params)
        rows = step_rows(params[INNER_LR], self.hyper.adaptation_steps)
        for step, rates in enumerate(rows):
            weights, seen = once(weights, others, rates, x, y, step)
            yield weights, seen

    def forward(
        self, params: Params, weights: Params, x: Tensor, step: int
    ) -> tuple[Tensor, Params]:
        """Outputs [B, ways] with what batch norms have of a step, and the statistics [C] of x.

        With BNRS training and evaluation both normalise by the running statistics, as constants, so
        predictions aren't transductive. The paper doesn't say where they are used; the reference
        code collects them, but normalises by the batch even then. To train by the batch and
        evaluate by the average, as batch normalisation was meant, fails where batches are tasks:
        J. Bronskill et al., "TaskNorm", ICML 2020, arXiv:2003.03284.
        """
        affine, running = (step_of(step, under(each, params)) for each in ("affine", "running"))
        own = prefixed("encoder", affine)
        if not self.hyper.running_statistics:
            return self.network(weights | own, x), {}
        with watched(self.encoder.module, running) as seen:
            return self.network(weights | own, x), seen


def step_of(step: int, tables: Params) -> Params:
    """The row of a step of each table [steps, …], the last one for those beyond."""
    return {name: each[min(step, len(each) - 1)] for name, each in tables.items()}
