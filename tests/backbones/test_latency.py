"""The latency of a network: what it is of, and that it leaves everything as it was."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autometa.backbones import BACKBONES
from autometa.backbones.base import measured

SLEEP_S = 0.02


class Sleeper(nn.Module):
    """Takes a known time, on inputs and threads that it notes down."""

    def __init__(self, note: Callable[[Tensor, int], None]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.note = note

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta":
            self.note(x, torch.get_num_threads())
            time.sleep(SLEEP_S)
        return self.linear(x)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: object) -> Sleeper:
        return Sleeper(self.note)


def test_latency_is_the_time_of_one_input_in_milliseconds_on_one_thread() -> None:
    seen: list[tuple[tuple[int, ...], int]] = []
    with torch.device("meta"):
        module = Sleeper(lambda x, threads: seen.append((tuple(x.shape), threads)))
    threads = torch.get_num_threads()
    latency = measured(module, (3,)).latency_ms()
    assert latency >= 1e3 * SLEEP_S
    assert set(seen) == {((1, 3), 1)}
    assert len(seen) >= 5, "warm-up and several repeats"
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet", (1, 8, 8)), ("cell", (3, 8, 8)), ("conv1d", (2, 32)), ("mlp", (1,))],
)
def test_measuring_leaves_the_skeleton_and_the_random_state_alone(
    name: str, shape: tuple[int, ...]
) -> None:
    space = BACKBONES.load(name)()
    backbone = space.build(space.default(), shape)
    state = torch.get_rng_state()
    assert backbone.latency_ms() > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert {p.device.type for p in backbone.module.parameters()} == {"meta"}
