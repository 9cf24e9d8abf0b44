"""Studies as a search leaves them in the storage, without running one."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest

from autometa.config import StudyConfig, parse_config
from autometa.search.folder import StudyFolder, create_folder, write_json
from autometa.search.samplers import make_sampler
from autometa.search.space import Candidate
from autometa.search.study import (
    COMPLETE,
    DIVERGED,
    FAILED,
    PRUNED,
    REJECTED,
    create_study,
    end_trial,
    report_score,
    storage_of,
)

EVIL = "<script>alert('reason')</script> & [bold]more[/bold]"
ITERATIONS = 180
GROUPS = ("conv1", "conv2", "head")


def candidate(trial: optuna.Trial) -> Candidate:
    """A point of a small space, with parameters named as the search names them."""
    learner = trial.suggest_categorical("learner", ["maml", "protonet"])
    width = trial.suggest_categorical("conv.width", [16, 32])
    rate = trial.suggest_float(f"{learner}.meta_lr", 1e-4, 1e-2, log=True)
    hyper: dict[str, Any] = {"meta_lr": rate, "augment": "none"}
    if learner == "maml":
        rows = [
            [trial.suggest_float(f"maml.inner_lr[{s}][{g}]", 1e-3, 1.0, log=True) for g in GROUPS]
            for s in range(2)
        ]
        hyper |= {"inner_steps": 2}
        hyper |= {"inner_lr": {"mode": "searched", "groups": "layer", "values": rows}}
    whole = {"activation": "relu", "depth": 2, "norm": "batch", "pool": "max", "width": width}
    blocks = {f"conv{i}": {"kernel": 2 * i + 1, "operator": "conv", "skip": False} for i in (1, 2)}
    architecture = whole | {f"{b}/{k}": v for b, own in blocks.items() for k, v in own.items()}
    return Candidate(learner, hyper, "conv", architecture, 900 * width, 40_000 * width)


LONG = "a_folder_whose_name_is_wider_than_a_phone_and_has_no_place_to_break"


class MadeStudy:
    """A study on disk whose trials are told, not trained."""

    def __init__(self, config: StudyConfig, direction: str) -> None:
        self.config = config
        self.direction = direction
        self.folder: StudyFolder = create_folder(
            config, {"name": "glyphs", "fingerprint": "f00d", "shape": [1, 28, 28]}
        )
        self.study = create_study(config, storage_of(config), direction)

    def ask(self) -> optuna.Trial:
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = make_sampler(self.config.sampler, self.config.seed, number)
        trial = self.study.ask()
        trial.set_user_attr("candidate", asdict(candidate(trial)))
        return trial

    def trial(self, end: str | None, scores: list[float], reason: str = "") -> optuna.Trial:
        """One trial with these scores, 60 meta-iterations apart; no end: it still runs."""
        trial = self.ask()
        for index, score in enumerate(scores):
            measured = {"adaptation": 2.0 + trial.number, "ece": 0.05}
            report_score(
                trial,
                score,
                60 * (index + 1),
                seconds=30.0 * (index + 1),
                ci95=0.015 if math.isfinite(score) else None,
                measures=measured if self.config.several else None,
            )
        if end:
            end_trial(trial, end, reason)
        return trial

    def fill(self) -> None:
        """Trials of every end, one of them still running."""
        sign = 1 if self.direction == "maximize" else -1
        for index in range(6):
            start = 0.4 + 0.03 * index
            self.trial(COMPLETE, [start, start + sign * 0.1, start + sign * 0.15])
        self.trial(PRUNED, [0.31], "cut by the scheduler at 60 meta-iterations")
        self.trial(PRUNED, [0.33, 0.36], "cut by the scheduler at 120 meta-iterations")
        self.trial(DIVERGED, [0.2, math.nan], "the loss is NaN")
        self.trial(FAILED, [], EVIL)
        self.trial(REJECTED, [], "parameters 90,000 exceed max_parameters 60,000")
        self.trial(None, [0.45])
        self.study.set_user_attr("search_s", 362.0)

    def finish(self, *, baseline: bool = True) -> dict[str, Any]:
        """Write a result: the best trial wins."""
        from autometa.search.front import described
        from autometa.search.study import best_first, rows_of

        rows = rows_of(self.study)
        best = best_first(rows, self.direction)[:2]
        pairs = zip(best, (0.68, 0.66), strict=True)
        entries = [self._entry(row.name, row.score, mean) for row, mean in pairs]
        winner = entries[0] | {
            "candidate": best[0].candidate,
            "exported_seed": 1,
            "confirmed": {"mean": 0.679, "ci95": 0.02, "tasks": 100, "seeds": {}},
            "test": {"mean": 0.803, "ci95": 0.015, "tasks": 600},
        }
        published = self._entry("baseline", None, 0.6) | {
            "candidate": best[1].candidate,
            "exported_seed": 1,
            "test": {"mean": 0.754, "ci95": 0.016, "tasks": 600},
        }
        result = {
            "direction": self.direction,
            "metric": "accuracy" if self.direction == "maximize" else "mse",
            "winner": winner,
            "baseline": published if baseline else None,
            "finalists": entries,
            "front": described(self.study, {row.name for row in best}),
            "selection": {
                "rounds": [
                    {"tasks": 100, "names": [row.name for row in best]},
                    {"tasks": 100, "names": [row.name for row in best]},
                ],
                "runner_up": {
                    "name": best[1].name,
                    "better": 0.02,
                    "ci95": 0.025,
                    "probability": 0.941,
                    "tasks": 200,
                },
                "optimism": {
                    "winner": {"mean": 0.021, "ci95": 0.02},
                    "finalists": {"mean": -0.004, "ci95": 0.015},
                },
            },
            "cost": {
                "search_s": 362.0,
                "total_s": 551.0,
                "compute_s": 1004.0,
                "trials": {"complete": 6, "pruned": 2, "diverged": 1, "failed": 1, "rejected": 1},
            },
        }
        write_json(self.folder.result, result)
        return result

    @staticmethod
    def _entry(name: str, searched: float | None, mean: float) -> dict[str, Any]:
        rescored = {"mean": mean, "ci95": 0.02, "tasks": 200}
        rescored |= {"seeds": {"1": mean + 0.01, "2": mean - 0.01}}
        return {"name": name, "search_score": searched, "rescored": rescored, "seconds": 94.0}


@pytest.fixture
def make_study(tmp_path: Path) -> Iterator[Callable[..., MadeStudy]]:
    made: list[MadeStudy] = []

    def make(direction: str = "maximize", **over: Any) -> MadeStudy:
        values = {
            "name": "made",
            "out": str(tmp_path / LONG / f"study{len(made)}"),
            "budget": {"trials": 14, "iterations": ITERATIONS},
            "validation": {"every": 60},
            "scheduler": {"grace": 60},
        }
        made.append(MadeStudy(parse_config(values | over), direction))
        return made[-1]

    yield make
    made.clear()
    with warnings.catch_warnings():  # Optuna leaves SQLite connections to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
