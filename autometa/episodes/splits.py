"""Seeded random splits of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .task import stream


def shuffled(count: int, seed: int, name: str) -> list[int]:
    """0 … count − 1 in an order that depends on ``seed`` and ``name`` alone."""
    return torch.randperm(count, generator=stream(seed, name)).tolist()


def by_fraction(
    count: int, validation: float, test: float, seed: int, name: str
) -> dict[str, list[int]]:
    """Random disjoint splits of ``count`` classes; each has a class where there are three.

    Within a split the classes are in ascending order.
    """
    order = shuffled(count, seed, name)
    held = max(1, round(count * test)), max(1, round(count * validation))
    cut = held[0] + held[1]
    parts = {"test": order[: held[0]], "validation": order[held[0] : cut], "train": order[cut:]}
    return {split: sorted(part) for split, part in parts.items()}


def runs(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Each label once and how often it comes in a row: ``aab`` → (a, b), (2, 1)."""
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return tuple(counts), tuple(counts.values())
