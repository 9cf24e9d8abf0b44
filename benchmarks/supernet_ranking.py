"""How well a super-net ranks networks: Kendall's τ with the scores of networks trained alone.

python -m benchmarks.supernet_ranking [FOLDER [SPACE]]

Random networks of a space (``conv`` or ``cell``) are scored with the weights of one super-net, and
each is trained alone, twice, by the same learner: 5-way 1-shot glyphs of 14 × 14 pixels on one
thread. FOLDER/ranking.json keeps what is done, so a run that was stopped goes on.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from autometa.backbones import BACKBONES
from autometa.config import LimitsConfig
from autometa.learners.hyper_json import to_json
from autometa.learners.protonet import ProtoNetHyper
from autometa.search.folder import StudyFolder, write_json
from autometa.search.space import RandomSuggest
from autometa.search.supernet.training import Job, score, train
from autometa.trial import TrialSpec, score_checkpoint, train_to_end

NETWORKS = 36
SEEDS = (0, 1)
SUPERNET_ITERATIONS, SUPERNET_TASKS = 4000, 200
ALONE_ITERATIONS, ALONE_TASKS = 400, 400
SAVE_EVERY_ITERATIONS = 500
LEFT: dict[str, dict[str, tuple[Any, ...]]] = {
    "conv": {"width": (16, 32, 48, 64)},
    "cell": {"width": (8, 16), "depth": (2,), "nodes": (2,), "stem_stride": (2,)},
}
"""What is left of a space, so that a network trains in seconds."""
IMAGE = (1, 14, 14)
RESAMPLES = 2000

HYPER = ProtoNetHyper(meta_lr=0.003, way_factor=1, meta_schedule="cosine")
TASK = {"ways": 5, "shots": 1, "queries": 5, "within_groups": False, "train_within_groups": False}


def setting(name: str) -> Job:
    """The super-net; its spec with another architecture and budget is a network alone."""
    space = BACKBONES.load(name)()
    options = {**space.choices(IMAGE), **LEFT[name]}
    spec = TrialSpec(
        learner="protonet",
        hyper=to_json(HYPER),
        backbone=name,
        architecture=space.default(),
        data="glyphs",
        data_options={"image_size": IMAGE[-1]},
        task=TASK,
        seed=0,
        iterations=SUPERNET_ITERATIONS,
        validate_every=SUPERNET_ITERATIONS,
        validation_tasks=2,
    )
    return Job(spec, options, LimitsConfig())


def networks(job: Job) -> list[dict[str, Any]]:
    """Rows of different random networks with their sizes."""
    rows: list[dict[str, Any]] = []
    choices = job.paths(IMAGE).choices
    for number in range(10 * NETWORKS):
        sample, backbone = choices.sample(RandomSuggest(f"network {number}"), job.spec.backbone)
        sizes = {"parameters": backbone.parameters, "macs": backbone.macs}
        if all(row["architecture"] != sample for row in rows):
            rows.append({"architecture": sample, **sizes, "alone": []})
    return rows[:NETWORKS]


def shared_scores(job: Job, folder: Path, results: dict[str, Any]) -> None:
    """Train the super-net, and score every network with it."""
    samples = [row["architecture"] for row in results["rows"]]
    start, checkpoint = time.process_time(), folder / "supernet.pt"
    for name, end in (("untrained", 0), ("supernet", SUPERNET_ITERATIONS)):
        for until in (*range(SAVE_EVERY_ITERATIONS, end, SAVE_EVERY_ITERATIONS), end):
            train(job, checkpoint, until)
        for row, value in zip(
            results["rows"], score(job, checkpoint, samples, SUPERNET_TASKS), strict=True
        ):
            row[name] = round(value, 6)
    results["supernet_s"] = time.process_time() - start
    checkpoint.unlink()


def alone(job: Job, architecture: dict[str, Any], seed: int) -> float:
    """The score of a network trained by itself, on tasks that the super-net's aren't scored on."""
    budget = {"iterations": ALONE_ITERATIONS, "validate_every": ALONE_ITERATIONS}
    spec = replace(job.spec, architecture=architecture, seed=seed, **budget)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        train_to_end(spec, checkpoint)
        found = score_checkpoint(spec, checkpoint, "validation", "rescore", ALONE_TASKS)
    return round(found.mean, 6)


def tau(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Kendall's τ, and its 95 % interval by resampling pairs."""
    pairs, chance = np.array([x, y]), np.random.default_rng(0)
    picks = chance.integers(len(x), size=(RESAMPLES, len(x)))
    resampled = [kendalltau(*pairs[:, pick]).statistic for pick in picks]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return {"tau": float(kendalltau(x, y).statistic), "low": float(low), "high": float(high)}


def taus(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """τ of everything with the scores of the first seed; of the second seed, it is the ceiling."""
    first, second = zip(*(row["alone"] for row in rows), strict=True)
    columns = ("supernet", "untrained", "parameters", "macs")
    found = {name: tau([row[name] for row in rows], first) for name in columns}
    return found | {"second_seed": tau(second, first)}


def main(folder: Path, space: str) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    path, job = folder / "ranking.json", setting(space)
    fresh = {"job": job.to_json(), "rows": networks(job), "alone_s": 0.0}
    results = StudyFolder(folder).read_json(path) or fresh
    if "supernet_s" not in results:
        shared_scores(job, folder, results)
        write_json(path, results)
    for seed in SEEDS:
        for row in [row for row in results["rows"] if len(row["alone"]) == seed]:
            start = time.process_time()
            row["alone"].append(alone(job, row["architecture"], seed))
            results["alone_s"] += time.process_time() - start
            write_json(path, results)
    results["tau"] = taus(results["rows"])
    write_json(path, results)
    for name, found in results["tau"].items():
        print(f"{name:12} τ {found['tau']:5.2f}  95 % [{found['low']:5.2f}, {found['high']:5.2f}]")
    print(f"super-net {results['supernet_s']:.0f} s, alone {results['alone_s']:.0f} s of CPU")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    main(Path(given.get(1, "trials/supernet")), given.get(2, "conv"))
