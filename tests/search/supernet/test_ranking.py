"""What is ranked, in which order, and how a ranking is judged."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from test_slices import paths_of

from autometa.backbones.base import Sample
from autometa.search.study import MAXIMIZE, MINIMIZE
from autometa.search.supernet.ranking import Ranking, Scores, key
from benchmarks.supernet_ranking import tau


def widest(samples: Sequence[Sample]) -> Scores:
    """A score by which width is all, and networks of 16 channels fail."""
    return [None if sample["width"] == 16 else float(sample["width"]) for sample in samples]


@pytest.mark.parametrize(("direction", "best"), [(MAXIMIZE, 128.0), (MINIMIZE, 32.0)])
def test_ranks_each_network_once_and_the_best_first(direction: str, best: float) -> None:
    ranking = Ranking(paths_of("conv"), 0, 60, direction)
    assert list(ranking.rounds(widest)) == [50, 60]
    order = [each.score for each in ranking.best_first()]
    assert order[0] == best
    failed = order.count(None)
    assert failed
    assert order[-failed:] == [None] * failed, "what isn't finite comes last"
    assert len({key(each.architecture) for each in ranking.ranked}) == 60


def test_the_second_half_is_bred_from_the_best() -> None:
    ranking = Ranking(paths_of("conv"), 0, 200, MAXIMIZE)
    list(ranking.rounds(widest))
    scores = [each.score or 0.0 for each in ranking.ranked]
    assert sum(scores[150:]) > 1.3 * sum(scores[:50])


def test_the_same_scores_give_the_same_ranking() -> None:
    rankings = [Ranking(paths_of("mlp"), 3, 70, MAXIMIZE) for _ in range(2)]
    for ranking in rankings:
        list(ranking.rounds(lambda samples: [float(sample["depth"]) for sample in samples]))
    assert rankings[0].ranked == rankings[1].ranked


def test_tau_is_the_share_of_pairs_in_order_less_those_out_of_it() -> None:
    chance = random.Random(0)
    x = [chance.random() for _ in range(20)]
    y = [value + chance.random() for value in x]
    pairs = list(itertools.combinations(zip(x, y, strict=True), 2))
    signs = [1 if (a[0] < b[0]) == (a[1] < b[1]) else -1 for a, b in pairs]
    found = tau(x, y)
    assert found["tau"] == pytest.approx(sum(signs) / len(pairs))
    assert -1 <= found["low"] < found["tau"] < found["high"] <= 1
    assert tau(x, x)["low"] == pytest.approx(1.0)
