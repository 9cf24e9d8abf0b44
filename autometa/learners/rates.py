"""The learning-rate vector: one inner rate per step and group of parameters.

A scalar rate for all, one per layer (Antoniou et al., "How to train your MAML", ICLR 2019,
section 4: LSLR) or one per parameter tensor. The vector is *searched* (the optimizer of
hyper-parameters owns it), *learned* (a meta-parameter, as in LSLR and Meta-SGD, whose entries all
start at one searched value), *refined* (a meta-parameter, every entry of which starts where the
search says) or *fixed*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GROUPS = ("scalar", "layer", "parameter")
MODES = ("searched", "learned", "refined", "fixed")


@dataclass(frozen=True)
class RateVector:
    """Rates of shape [steps, groups]; a single row serves every step, a single entry everything.

    ``values`` are the rates themselves, or where they are learned their initial values.
    Columns follow :func:`group_names`.
    """

    mode: str = "fixed"
    groups: str = "scalar"
    values: tuple[tuple[float, ...], ...] = ((0.01,),)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}, but must be one of {', '.join(MODES)}")
        if self.groups not in GROUPS:
            raise ValueError(f"groups is {self.groups!r}, but must be one of {', '.join(GROUPS)}")
        if not self.values or len({len(row) for row in self.values}) != 1 or not self.values[0]:
            raise ValueError("values must be rows of equal, positive length: one row a step")

    @property
    def is_learned(self) -> bool:
        """Whether the rates are meta-parameters that the outer loop moves."""
        return self.mode in ("learned", "refined")

    def tensor(self, steps: int, parameters: Sequence[str]) -> Tensor:
        """The rates as a float32 tensor [steps, groups].

        Raises:
            ValueError: ``values`` has neither one row nor ``steps``, or the wrong columns.
        """
        columns = len(group_names(parameters, self.groups))
        rates = torch.tensor(self.values)
        if rates.shape[0] not in (1, steps) or rates.shape[1] not in (1, columns):
            raise ValueError(
                f"a rate vector of shape {tuple(rates.shape)} doesn't fit "
                f"{steps} steps × {columns} groups ({self.groups})"
            )
        return rates.expand(steps, columns).clone()


def step_rows(table: Tensor, steps: int) -> Iterator[Tensor]:
    """The row of each step; steps beyond the table's own have its last row again.

    So do C. Finn et al., ICML 2017, appendix A.1, who train with 5 steps of one rate on
    mini-ImageNet and evaluate with 10 of the same.
    """
    rows = table.unbind()
    for step in range(steps):
        yield rows[min(step, len(rows) - 1)]


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to: ``"conv3.norm.weight"`` → ``"conv3"``."""
    return parameter.partition(".")[0]


def group_names(parameters: Iterable[str], groups: str) -> list[str]:
    """The column names of a rate vector, in the order of the parameters."""
    if groups == "scalar":
        return ["all"]
    names = (layer_of(name) if groups == "layer" else name for name in parameters)
    return list(dict.fromkeys(names))


def group_index(parameters: Iterable[str], groups: str) -> dict[str, int]:
    """Parameter name → its column in a rate vector."""
    parameters = list(parameters)
    columns = {name: i for i, name in enumerate(group_names(parameters, groups))}
    if groups == "scalar":
        return dict.fromkeys(parameters, 0)
    return {name: columns[layer_of(name) if groups == "layer" else name] for name in parameters}
