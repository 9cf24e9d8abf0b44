"""Learners that differ in numbers only, as one: the members of a cohort.

Their meta-parameters have a leading dimension P, and so have the numbers among their
hyper-parameters. Whatever is computed is batched over it, each member's part by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from autometa.engine.convolutions import BatchedConvolutions
from autometa.engine.halving import Halving
from autometa.engine.recording import Recorder
from autometa.learners.base import Hyper, Learner, Params
from autometa.learners.domains import Float
from autometa.learners.rates import RateVector

OUTER = ("meta_lr", "meta_weight_decay")
"""Numbers that only the outer optimizer asks for."""

Function = Callable[..., Any]
"""Of a learner, its meta-parameters, and tensors that are the same for all."""


def batched(hyper_type: type[Hyper]) -> list[str]:
    """The numbers in which members may differ; in the numbers of a rate vector they may as well."""
    return [
        field.name
        for field in fields(hyper_type)
        if isinstance(field.metadata["domain"], Float) and field.metadata["batched"]
    ]


def agreed(hyper: Hyper) -> dict[str, Any]:
    """What all members of a cohort must have in common."""
    free = batched(type(hyper))
    values = {each.name: getattr(hyper, each.name) for each in fields(hyper)}
    return {
        name: (value.mode, value.groups) if isinstance(value, RateVector) else value
        for name, value in values.items()
        if name not in free
    }


def check_members(learners: Sequence[Learner[Any]]) -> None:
    """Raise a ValueError unless learners can be one program."""
    first = learners[0]
    expected = agreed(first.hyper)
    for learner in learners[1:]:
        if type(learner) is not type(first):
            raise ValueError(f"{type(learner).__name__} can't be in one cohort with {first}")
        for name, value in agreed(learner.hyper).items():
            if value != expected[name]:
                raise ValueError(f"{name} is {value} and {expected[name]}: a cohort has to agree")


def stacked(params: Iterable[Params]) -> Params:
    """The members' tensors, [P, …]."""
    every = list(params)
    return {name: torch.stack([each[name] for each in every]) for name in every[0]}


def over_members(
    function: Function,
    learners: Sequence[Learner[Any]],
    params: Params,
    *shared: Tensor,
    recorder: Recorder | None = None,
    key: object = None,
) -> Any:
    """``function`` of every learner and its meta-parameters; its tensors with P first.

    Args:
        learners: P of them, for which :func:`check_members` is content.
        params: Stacked, [P, …].
        shared: What else the function is given.
        recorder: Replays it on a GPU; ``key`` is what the function does, None if that may change.
    """
    first = learners[0]

    def run(params: Params, numbers: dict[str, Tensor], *shared: Tensor) -> Any:
        def one(params: Params, numbers: dict[str, Tensor]) -> Any:
            return function(_with(first, numbers), params, *shared)

        with BatchedConvolutions():
            return torch.func.vmap(one)(params, numbers)

    numbers = _differing(learners, next(iter(params.values())))
    if recorder is None or key is None:
        return run(params, numbers, *shared)
    return recorder((first, key), run, params, numbers, *shared)


def _differing(learners: Sequence[Learner[Any]], like: Tensor) -> dict[str, Tensor]:
    """Numbers that aren't the same for all, [P] each."""
    found: dict[str, Tensor] = {}
    for name in batched(type(learners[0].hyper)):
        values = [float(getattr(learner.hyper, name)) for learner in learners]
        if name not in OUTER and len(set(values)) > 1:
            found[name] = like.new_tensor(values)
    return found


def _with(learner: Learner[Any], numbers: dict[str, Tensor]) -> Learner[Any]:
    """The learner with tensors as numbers, which no constructor could check."""
    hyper = copy.copy(learner.hyper)
    for name, value in numbers.items():
        object.__setattr__(hyper, name, value)
    return replace(learner, hyper=hyper)


class MemberParts(Halving):
    """:func:`over_members` in parts of the members, where all at once take too much memory."""

    def __init__(self) -> None:
        super().__init__()
        self._recorder = Recorder()

    def __call__(
        self,
        function: Function,
        learners: Sequence[Learner[Any]],
        params: Params,
        *shared: Tensor,
        key: object = None,
    ) -> Any:
        """As :func:`over_members`.

        Raises:
            torch.OutOfMemoryError: A single member takes too much memory.
        """
        count = len(learners)

        def of(start: int, size: int) -> Any:
            return over_members(
                function,
                learners[start : start + size],
                {name: value[start : start + size] for name, value in params.items()},
                *shared,
                recorder=self._recorder,
                key=key,
            )

        def attempt(size: int) -> Any:
            if size >= count:
                return of(0, count)
            parts = [of(start, size) for start in range(0, count, size)]
            return tree_map(lambda *tensors: torch.cat(tensors), *parts)

        return self.run(count, attempt)
