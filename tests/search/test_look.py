"""The look at the winner that ends a search: what it writes, and that it can lose no result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS

from autometa.config import StudyConfig
from autometa.search import run
from autometa.search.events import Event, Phase, SearchStarted
from autometa.search.folder import StudyFolder
from autometa.trial import load_params

Make = Callable[..., StudyConfig]
pytestmark = [pytest.mark.usefixtures("ray_here"), *RAY_WARNINGS]

GLYPHS = {
    "data": {"name": "glyphs"},
    "task": {"ways": 3, "shots": 1, "queries": 5},
    "space": {
        "learners": {"maml": {"inner_steps": 1, "inner_lr": {"low": 0.05, "high": 0.1}}},
        "backbones": {"conv": {"depth": 2, "width": 16}},
    },
    "budget": {"trials": 1, "iterations": 4},
    "scheduler": {"name": "none"},
    "finalists": {"count": 1, "seeds": 1, "tasks": 30},
    "baseline": None,
}


def small_glyphs(small_in: Make, place: Path) -> StudyConfig:
    config = small_in(place).model_dump(mode="json")
    return StudyConfig.model_validate(config | GLYPHS)


@pytest.fixture(scope="module")
def sinusoids(
    ray_here: None, small_in: Make, tmp_path_factory: pytest.TempPathFactory
) -> StudyFolder:
    config = small_in(
        tmp_path_factory.mktemp("look"),
        budget={"trials": 2, "iterations": 8},
        scheduler={"name": "none"},
        finalists={"count": 1, "seeds": 2, "tasks": 30},
    )
    return run.search(config)


def insight_of(folder: StudyFolder) -> dict[str, Any]:
    known = json.loads(folder.insight.read_text())
    assert isinstance(known, dict)
    return known


def confirmation(folder: StudyFolder, known: dict[str, Any]) -> dict[str, Any]:
    """What the winner's exported seed had on the tasks that confirmed it."""
    path = folder.finalist(f"confirmation-{known['name']}-seed{known['seed']}")
    outcome = json.loads(path.read_text())
    assert isinstance(outcome, dict)
    return outcome


def winner_of(folder: StudyFolder) -> dict[str, Any]:
    result = folder.read_result()
    assert result is not None
    winner = result["winner"]
    assert isinstance(winner, dict)
    return winner


def test_a_search_of_regressions_ends_with_a_look_at_its_winner(sinusoids: StudyFolder) -> None:
    known, winner = insight_of(sinusoids), winner_of(sinusoids)
    assert (known["name"], known["seed"]) == (winner["name"], winner["exported_seed"])
    assert known["scores"] == confirmation(sinusoids, known)["scores"]
    assert known["calibration"] is None
    steps = winner["candidate"]["hyper"]["inner_steps"]
    assert known["steps"]["own"] == steps
    assert [each["steps"] for each in known["steps"]["points"]] == list(range(steps + 6))
    own = known["steps"]["points"][steps]["mean"]
    assert own == pytest.approx(sum(known["scores"]) / 30), "all tasks are affordable here"
    trained = load_params(sinusoids.path / winner["checkpoint"])["inner_lr"]
    assert known["rates"]["rows"] == trained.tolist()
    hardest = known["episodes"][0]
    assert hardest["score"] == max(known["scores"])
    assert len(hardest["support"]) == len(hardest["queries"]) == 10


def test_a_search_of_images_has_calibration_and_pictures(small_in: Make, tmp_path: Path) -> None:
    events = list[Event]()
    folder = run.search(small_glyphs(small_in, tmp_path), events.append)
    known = insight_of(folder)
    outcome = confirmation(folder, known)
    assert known["scores"] == outcome["scores"]
    assert known["calibration"]["ece"] == pytest.approx(outcome["ece"])
    accuracies = [sum(task) / 15 for task in known["calibration"]["correct"]]
    assert accuracies == pytest.approx(known["scores"])
    assert [each["kind"] for each in known["episodes"]] == ["hardest"] * 2 + ["easiest"] * 2
    assert known["episodes"][0]["score"] == min(known["scores"])
    assert known["episodes"][0]["sheet"]["png"]
    begun = next(i for i, e in enumerate(events) if isinstance(e, SearchStarted))
    titles = list(dict.fromkeys(e.title for e in events[begun:] if isinstance(e, Phase)))
    assert titles == ["finalists", "confirmation", "meta-test", "a closer look"]


def test_no_further_meta_test_task_is_seen(sinusoids: StudyFolder) -> None:
    """The tasks are the confirmation's, which chose nothing; meta-test's scores are others."""
    known = insight_of(sinusoids)
    path = sinusoids.finalist(f"meta-test-{known['name']}-seed{known['seed']}")
    assert not set(known["scores"]) & set(json.loads(path.read_text())["scores"])


def test_a_search_that_died_before_the_look_takes_it_when_resumed(sinusoids: StudyFolder) -> None:
    before, result = sinusoids.insight.read_text(), sinusoids.result.read_text()
    sinusoids.insight.unlink()
    run.resume(sinusoids.path)
    assert sinusoids.insight.read_text() == before
    assert sinusoids.result.read_text() == result


def test_a_look_that_fails_leaves_the_result_and_says_why(sinusoids: StudyFolder) -> None:
    before, result = sinusoids.insight.read_text(), sinusoids.result.read_text()
    checkpoint = sinusoids.path / winner_of(sinusoids)["checkpoint"]
    weights = checkpoint.read_bytes()
    checkpoint.write_bytes(weights[:100])
    sinusoids.insight.unlink()
    try:
        run.resume(sinusoids.path)
        known = insight_of(sinusoids)
        assert set(known) == {"name", "seed", "failed"}
        assert "Error" in known["failed"]
        assert sinusoids.result.read_text() == result
    finally:
        checkpoint.write_bytes(weights)
        sinusoids.insight.write_text(before)
