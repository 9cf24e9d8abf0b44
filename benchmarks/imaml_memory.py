"""Peak memory of one meta-gradient of MAML and iMAML, by the number of inner steps, on a CPU.

python -m benchmarks.imaml_memory

A 5-way 5-shot task of images 1 × 28 × 28 with 15 queries a class; the network is four convolutions
of 32 filters. Counted is every tensor's storage that the meta-gradient allocates, while it lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autometa.backbones import BACKBONES
from autometa.episodes.task import Task
from autometa.learners.base import Encoder, Learner, Params
from autometa.learners.imaml import IMAML, IMAMLHyper
from autometa.learners.maml import MAML, MAMLHyper

STEPS = (1, 5, 10, 25, 50)
WAYS, SHOTS, QUERIES = 5, 5, 15
IMAGE = (1, 28, 28)


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that operations in this context made and nobody dropped yet.

    Attributes:
        peak: The most there were at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = [t.untyped_storage() for t in tree_leaves((args, kwargs)) if _is_tensor(t)]
        result = func(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(result)):
            storage = tensor.untyped_storage()
            if storage not in self._known and all(storage is not other for other in given):
                self._known.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._drop, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _drop(self, size: int) -> None:
        self.live -= size


def peak_bytes(learner: Learner[Any], params: Params, task: Task) -> int:
    """Most bytes alive at once in the meta-gradient of a task, apart from its inputs."""
    with LiveBytes() as memory:
        learner.meta_grad(params, task)
    return memory.peak


def peaks(encoder: Encoder, task: Task, steps: Sequence[int]) -> dict[str, list[int]]:
    """Peak bytes of both learners at each number of inner steps."""
    found: dict[str, list[int]] = {"MAML": [], "iMAML": []}
    for count in steps:
        learners: dict[str, Learner[Any]] = {
            "MAML": MAML(encoder, MAMLHyper(inner_steps=count)),
            "iMAML": IMAML(encoder, IMAMLHyper(inner_steps=count)),
        }
        for name, learner in learners.items():
            params = learner.init(task.ways, torch.Generator().manual_seed(0))
            params = {key: value.to(task.support_x.dtype) for key, value in params.items()}
            found[name].append(peak_bytes(learner, params, task))
    return found


def image_task() -> Task:
    """Noise, which takes as much memory as anything."""
    generator = torch.Generator().manual_seed(0)

    def half(per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(WAYS * per_class, *IMAGE, generator=generator)
        return x, torch.arange(WAYS).repeat(per_class)

    return Task(*half(SHOTS), *half(QUERIES), ways=WAYS)


def main() -> None:
    torch.set_num_threads(1)
    backbone = BACKBONES.load("conv4")().build({"width": 32}, IMAGE)
    found = peaks(Encoder(backbone.module, backbone.features), image_task(), STEPS)
    print(f"torch {torch.__version__}, {WAYS}-way {SHOTS}-shot, conv4 of width 32, peak in MiB")
    print(f"{'steps':>5} {'MAML':>8} {'iMAML':>8} {'ratio':>6}")
    for count, maml, imaml in zip(STEPS, found["MAML"], found["iMAML"], strict=True):
        print(f"{count:5} {maml / 2**20:8.1f} {imaml / 2**20:8.1f} {maml / imaml:6.1f}")
    for name, sizes in found.items():
        print(f"{name}: {STEPS[-1]} steps take {sizes[-1] / sizes[0]:.2f} times the memory of 1")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


if __name__ == "__main__":
    main()
