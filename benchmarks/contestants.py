"""A meta-iteration as each peer's examples write it, of the same weights, on the same tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autometa.engine.train import MAX_GRADIENT_NORM
from autometa.episodes.task import Task
from autometa.learners.base import Params

WAYS, QUERIES = 5, 15
INNER_LR, META_LR = 1 / 64, 1e-2  # exact in every dtype, the first

Step = Callable[[], float]


@dataclass(frozen=True)
class Cell:
    """A line of the table: method, width of the Conv4, images, shots, tasks, inner steps."""

    method: str
    width: int
    image: tuple[int, int, int]
    shots: int
    tasks: int
    steps: int

    @property
    def told(self) -> list[str]:
        side = f"{self.image[1]}×{self.image[2]}×{self.image[0]}"
        numbers = [str(number) for number in (self.shots, self.tasks, self.steps or "")]
        return [self.method, f"Conv4-{self.width}", side, *numbers]


def contestants(cell: Cell, params: Params, batch: Task, peers: Sequence[str]) -> dict[str, Step]:
    """Those of the peers that have the method, by name."""
    makers: dict[str, Callable[[Cell, Params, Task], Step]] = {"learn2learn": learn2learn}
    match cell.method:
        case "MAML":
            makers |= {"higher": higher, "torchopt": torchopt}
        case "MAML++":
            makers = {"learn2learn": learn2learn_mamlpp}
        case "ProtoNet":
            makers = {"learn2learn": learn2learn_protonet}
        case "R2-D2":
            makers = {}
    return {name: make(cell, params, batch) for name, make in makers.items() if name in peers}


def network(cell: Cell, params: Params) -> tuple[nn.Module, nn.Module]:
    """The usual Conv4 and head of torch's own layers, from the same weights."""
    layers: list[nn.Module] = []
    channels = cell.image[0]
    for _ in range(4):
        conv = nn.Conv2d(channels, cell.width, 3, padding=1)
        norm = nn.BatchNorm2d(cell.width, track_running_stats=False)
        layers += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
        channels = cell.width
    body = nn.Sequential(*layers, nn.Flatten())
    head = nn.Linear(cell.width * (cell.image[1] // 16) ** 2, WAYS)
    modules = [body, head] if "head.weight" in params else [body]
    values = [value for name, value in params.items() if name.startswith(("encoder.", "head."))]
    own = [each for module in modules for each in module.parameters()]
    with torch.no_grad():
        for parameter, value in zip(own, values, strict=True):
            parameter.copy_(value)
    like = values[0]
    return body.to(like), head.to(like)


def outer_step(models: tuple[nn.Module, ...], batch: Task, loss_of: Any) -> Step:
    """The usual outer loop: gradients of task after task add up; clipped as ours, a step."""
    parameters = [each for model in models for each in model.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=META_LR)

    def step() -> float:
        optimizer.zero_grad()
        total = 0.0
        for task in batch.unbind():
            total += float(loss_of(task)) / len(batch.query_y)
        for parameter in parameters:
            parameter.grad.div_(len(batch.query_y))
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        return total

    return step


def learn2learn(cell: Cell, params: Params, batch: Task) -> Step:
    """As its examples do it: ``clone``, ``adapt``, ``backward``."""
    from learn2learn.algorithms import maml

    body, head = network(cell, params)
    first_order = cell.method.startswith("first")
    anil = cell.method == "ANIL"
    wrapped = maml.MAML(
        head if anil else nn.Sequential(body, head), INNER_LR, first_order=first_order
    )

    def embed(x: Tensor) -> Tensor:
        return body(x) if anil else x

    def loss_of(task: Task) -> Tensor:
        clone = wrapped.clone()
        support = embed(task.support_x)
        for _ in range(cell.steps):
            clone.adapt(F.cross_entropy(clone(support), task.support_y))
        loss = F.cross_entropy(clone(embed(task.query_x)), task.query_y)
        loss.backward()
        return loss.detach()

    return outer_step((body, head), batch, loss_of)


def learn2learn_mamlpp(cell: Cell, params: Params, batch: Task) -> Step:
    """As its example: learned rates of layers and steps, the multi-step loss."""
    from learn2learn.mamlpp.MAMLpp import MAMLpp

    model = nn.Sequential(*network(cell, params))
    like = next(model.parameters())
    rates = [nn.Parameter(torch.full_like(like[: cell.steps, 0, 0, 0], INNER_LR)) for _ in range(5)]
    lrs = nn.ParameterDict({"1": rates[-1]})  # a convolution and its norm have one, as ours
    for block, rate in enumerate(rates[:-1]):
        lrs |= {f"0-{4 * block}": rate, f"0-{4 * block + 1}": rate}
    wrapped = MAMLpp(model, INNER_LR, lrs=lrs, adaptation_steps=cell.steps)

    def loss_of(task: Task) -> Tensor:
        clone = wrapped.clone()
        total = task.query_x.new_zeros(())
        for step in range(cell.steps):
            clone.adapt(F.cross_entropy(clone(task.support_x), task.support_y), step=step)
            total = total + F.cross_entropy(clone(task.query_x), task.query_y) / cell.steps
        total.backward()
        return total.detach()

    return outer_step((model, lrs), batch, loss_of)


def learn2learn_protonet(cell: Cell, params: Params, batch: Task) -> Step:
    """As its example."""
    from learn2learn.nn.protonet import PrototypicalClassifier

    body, _ = network(cell, params)

    def loss_of(task: Task) -> Tensor:
        classifier = PrototypicalClassifier(body(task.support_x), task.support_y)
        loss = F.cross_entropy(classifier(body(task.query_x)), task.query_y)
        loss.backward()
        return loss.detach()

    return outer_step((body,), batch, loss_of)


def higher(cell: Cell, params: Params, batch: Task) -> Step:
    """As its examples do it."""
    import higher as peer

    model = nn.Sequential(*network(cell, params))
    inner = torch.optim.SGD(model.parameters(), lr=INNER_LR)

    def loss_of(task: Task) -> Tensor:
        with peer.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, optimizer):
            for _ in range(cell.steps):
                optimizer.step(F.cross_entropy(fast(task.support_x), task.support_y))
            loss = F.cross_entropy(fast(task.query_x), task.query_y)
            loss.backward()
        return loss.detach()

    return outer_step((model,), batch, loss_of)


def torchopt(cell: Cell, params: Params, batch: Task) -> Step:
    """As its examples do it: an optimizer changes the network, which is then put back."""
    import torchopt as peer

    model = nn.Sequential(*network(cell, params))
    inner = peer.MetaSGD(model, lr=INNER_LR)

    def loss_of(task: Task) -> Tensor:
        kept = [peer.extract_state_dict(each, by="reference") for each in (model, inner)]
        for _ in range(cell.steps):
            inner.step(F.cross_entropy(model(task.support_x), task.support_y))
        loss = F.cross_entropy(model(task.query_x), task.query_y)
        loss.backward()
        for each, state in zip((model, inner), kept, strict=True):
            peer.recover_state_dict(each, state)
        return loss.detach()

    return outer_step((model,), batch, loss_of)
