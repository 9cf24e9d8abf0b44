"""Replayed searches against what can be said of them by hand."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import ITERATIONS, truth, write_table

from autometa.bench.replay import Point, Replay
from autometa.bench.search import course
from autometa.bench.surrogate import Prediction
from autometa.bench.tables import Table, load_table


class Exact:
    """The formula itself in the surrogate's place: what is tested is the search around it."""

    iterations = ITERATIONS
    chance = 0.0

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def predict(self, params: Any, distributions: Any, candidate: Any) -> Prediction:
        self.seen.append(params)
        return Prediction(truth(params), 3.0 * params["protonet.meta_batch"])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return load_table(write_table(tmp_path_factory.mktemp("tables") / "formula"))


def replayed(table: Table, worth: int, workers: int = 1, **parts: Any) -> tuple[Exact, list[Point]]:
    exact: Any = Exact()
    config = table.config(3, resources={"concurrency": workers}, **parts)
    return exact, Replay(exact, table.space, config, worth * table.iterations).run()


def test_without_a_scheduler_every_trial_is_whole_and_the_best_is_the_incumbent(
    table: Table,
) -> None:
    parts = {"sampler": {"name": "random"}, "scheduler": {"name": "none"}}
    exact, points = replayed(table, 7, **parts)
    assert len(exact.seen) == 7
    assert [point.iterations for point in points] == list(range(10, 211, 10))
    assert points[-1].seconds == pytest.approx(
        sum(3 * p["protonet.meta_batch"] for p in exact.seen)
    )
    ends = [truth(params)[-1] for params in exact.seen]
    best = [max(ends[: number + 1]) for number in range(7)]
    assert [point.score for point in points[2::3]] == best
    assert course(points, 30, 9) == [round(b, 4) for b in best] + [round(best[-1], 4)] * 2


def test_asha_cuts_what_it_would_cut(table: Table) -> None:
    """Curves don't cross here, so a trial is whole if it's in the top third of those before it."""
    parts = {"sampler": {"name": "random"}, "scheduler": {"name": "asha", "reduction_factor": 3}}
    exact, points = replayed(table, 20, **parts)
    assert len(exact.seen) > 25, "what is cut leaves room for others"
    spent, rung = [], list[float]()
    for params in exact.seen:
        first = truth(params)[0]
        limit = sorted(rung)[-(-2 * (len(rung) - 1) // 3)] if rung else first
        spent.append(30 if first >= limit else 10)
        rung.append(first)
    # NumPy's percentile interpolates, so a few at the border may differ.
    assert points[-1].iterations == pytest.approx(sum(spent), rel=0.15)


def test_workers_are_simulated_one_beside_the_other(table: Table) -> None:
    parts = {"sampler": {"name": "random"}, "scheduler": {"name": "none"}}
    one, _ = replayed(table, 8, **parts)
    two, points = replayed(table, 8, workers=2, **parts)
    assert two.seen[:8] == one.seen[:8], "chance doesn't look at results"
    # A trial of two tasks takes twice the time, so the other worker reports twice meanwhile.
    first_two = [params["protonet.meta_batch"] for params in two.seen[:2]]
    order = [point.seconds for point in points[:3]]
    if first_two == [1, 2]:
        assert order == [1, 2, 4]
    assert [point.iterations for point in points[:3]] == [10, 20, 30]


def test_a_replay_is_the_same_twice_and_tpe_beats_chance(table: Table) -> None:
    found = {}
    for name in ("tpe", "random"):
        parts = {"sampler": {"name": name}, "scheduler": {"name": "none"}}
        exact, _ = replayed(table, 40, **parts)
        again, _ = replayed(table, 40, **parts)
        assert again.seen == exact.seen
        late = [truth(params)[-1] for params in exact.seen[-15:]]
        found[name] = sum(late) / len(late)
    assert found["tpe"] > found["random"] + 0.02
