"""Record real trials, so that searches can be replayed on them: ``autometa bench record``.

Half of the configurations are random; half are proposed by TPE from what is recorded so far, for
each learner in turn, so that the table is dense where searches end up. One in twenty is an earlier
configuration with another seed, which tells how much of a score is chance. Each trial has one
thread; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, TrialState, create_trial

from autometa.bench.records import Record, check_same, load_records, save_records
from autometa.config import LimitsConfig, StudyConfig
from autometa.errors import ConfigError
from autometa.search.malloc import keep_memory
from autometa.search.plan import Plan, plan
from autometa.search.samplers import mixed
from autometa.search.space import SearchSpace
from autometa.trial import COMPLETE, DIVERGED, TrialSpec, run_trial

AGAIN_EVERY = 20


@dataclass(frozen=True)
class Proposal:
    """A configuration to record; the fields are those of :class:`Record`."""

    number: int
    origin: str
    seed: int
    params: dict[str, Any]
    candidate: dict[str, Any]


def record(config: StudyConfig, notify: Callable[[Record], None]) -> list[Record]:
    """Record until there are ``budget.trials`` configurations; those there already are kept.

    Writes ``about.json`` and ``curves.jsonl.gz`` into ``out``.

    Raises:
        UserError: Something in the configuration can't be run.
    """
    if config.space.limits != LimitsConfig():
        raise ConfigError("space.limits are set, but a table is of the whole space: remove them")
    if config.budget.trial_time is not None:
        raise ConfigError("budget.trial_time is set, but a table counts meta-iterations: remove it")
    planned = plan(config)
    config, folder = planned.config, planned.config.folder
    check_same(folder, _about(planned))
    records = {each.number: each for each in load_records(folder)}
    proposer = Proposer(planned.space, planned.direction, config.seed, records)
    missing = [number for number in range(config.budget.trials) if number not in records]
    keep_memory()
    running: set[Future[Record]] = set()
    with ProcessPoolExecutor(
        config.resources.concurrency,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        while missing or running:
            while missing and len(running) < config.resources.concurrency:
                proposal = proposer.propose(missing.pop(0))
                spec = replace(planned.spec(proposal.candidate), seed=proposal.seed)
                running.add(pool.submit(measure, proposal, spec.to_json()))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                proposer.add(each.result())
                save_records(folder, records.values())
                notify(each.result())
    return list(records.values())


def _about(planned: Plan) -> dict[str, Any]:
    """What makes records comparable; where the data lie is no part of it."""
    config = planned.config
    options = {k: v for k, v in config.data.options.items() if k != "root"}
    return {
        "seed": config.seed,
        "data": {"name": config.data.name, "options": options}
        | {"fingerprint": planned.data.fingerprint},
        "task": config.task.model_dump(exclude_defaults=True),
        "space": config.space.model_dump(exclude_defaults=True),
        "iterations": config.budget.iterations,
        "validation": {"every": config.validation.every, "tasks": config.validation.tasks},
        "direction": planned.direction,
        "input_shape": list(planned.data.input_shape),
    }


class Proposer:
    """What to record next, given what is recorded.

    Args:
        records: By number; :meth:`add` adds to it.
    """

    def __init__(
        self, space: SearchSpace, direction: str, seed: int, records: dict[int, Record]
    ) -> None:
        self._space, self._seed, self._records = space, seed, records
        self._study = optuna.create_study(direction=StudyDirection[direction.upper()])
        for each in records.values():
            self._learn(each)

    def propose(self, number: int) -> Proposal:
        """The configuration of a number."""
        if number % AGAIN_EVERY == AGAIN_EVERY - 1 and self._records:
            last = self._records[max(self._records)]
            params, candidate = dict(last.params), dict(last.candidate)
            return Proposal(number, "again", last.seed + 1, params, candidate)
        origin = ("random", "tpe")[number % 2]
        self._study.sampler = self._sampler(origin, number)
        trial = self._study.ask()
        sampled = asdict(self._space.sample(trial))
        self._study.tell(trial, state=TrialState.FAIL)  # it comes back as a record
        return Proposal(number, origin, self._seed, trial.params, sampled)

    def _sampler(self, origin: str, number: int) -> BaseSampler:
        seed = mixed(self._seed, number)
        if origin == "random":
            return RandomSampler(seed=seed)
        learners = list(self._space.learners)
        fixed = {"learner": learners[number // 2 % len(learners)]} if learners[1:] else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return PartialFixedSampler(fixed, TPESampler(seed=seed))

    def add(self, each: Record) -> None:
        """A configuration was recorded."""
        self._records[each.number] = each
        self._learn(each)

    def _learn(self, each: Record) -> None:
        if each.end == COMPLETE and each.origin != "again":
            self._study.add_trial(frozen_trial(self._space, each.params, each.scores[-1]))


def frozen_trial(
    space: SearchSpace, params: Mapping[str, Any], value: float
) -> optuna.trial.FrozenTrial:
    """A complete trial of these parameters, with the space's distributions."""
    fixed = FixedTrial(dict(params))
    space.sample(fixed)
    return create_trial(params=fixed.params, distributions=fixed.distributions, value=value)


def measure(proposal: Proposal, spec_json: dict[str, Any]) -> Record:
    """Train one configuration to the end, in this process."""
    end, iterations, scores, ci95, seconds = DIVERGED, [], [], [], []
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for report in run_trial(TrialSpec.from_json(spec_json), Path(folder) / "checkpoint.pt"):
            if report.end == DIVERGED:
                break
            iterations.append(report.iteration)
            scores.append(round(report.score, 5))
            ci95.append(round(report.ci95, 5))
            seconds.append(round(time.process_time() - start, 3))
            end = report.end or end
    curves = (tuple(iterations), tuple(scores), tuple(ci95), tuple(seconds))
    given = (proposal.number, proposal.origin, proposal.seed, proposal.params, proposal.candidate)
    return Record(*given, end, *curves)
