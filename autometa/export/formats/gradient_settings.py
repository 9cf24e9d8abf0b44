"""What a winner's method is, as settings of a project."""

from __future__ import annotations

from typing import Any

from autometa.export.formats.base import Winner
from autometa.learners.inner_loop import INNER_LR


def steps_of(winner: Winner) -> dict[str, Any]:
    """Numbers of steps, and until which part of the training their gradients are constants."""
    hyper = winner.learner.hyper
    return {
        "INNER_STEPS": hyper.inner_steps,
        "EVALUATION_STEPS": hyper.adaptation_steps,
        "FIRST_ORDER_UNTIL": _first_order_until(winner),
    }


def _first_order_until(winner: Winner) -> float:
    """0: second order from the start; 1: first order to the end."""
    hyper = winner.learner.hyper
    if winner.spec.learner == "fomaml":
        return 1.0
    share = {"first": 1.0, "annealed": float(getattr(hyper, "first_order_share", 0.0))}
    return share.get(getattr(hyper, "order", "second"), 0.0)


def single_rate(winner: Winner) -> float:
    """The rate that is nearest to all of a rate vector's: their mean."""
    return float(f"{winner.params[INNER_LR].mean().item():.7g}")


def rate_losses(winner: Winner, library: str) -> list[str]:
    """What one rate that stays as it is can't express."""
    table, vector = winner.params[INNER_LR], winner.learner.hyper.inner_lr
    lost = []
    if not table.equal(table[:1].expand_as(table)):
        told = ", ".join(f"{each:.3g}" for each in table.mean(1).tolist())
        lost.append(f"its inner rates differ from step to step ({told}), {library} has one")
    if not table.equal(table[:, :1].expand_as(table)):
        low, high = table.min().item(), table.max().item()
        groups = f"{vector.groups} to {vector.groups}"
        lost.append(
            f"its inner rates differ from {groups} ({low:.3g} to {high:.3g}), {library} has one"
        )
    if vector.is_learned:
        lost.append(f"its inner rates are learned, {library} leaves its rate as it is")
    return lost


def metasgd_settings(winner: Winner) -> dict[str, Any]:
    """Of Meta-SGD, whose rates are among the weights."""
    steps = steps_of(winner)
    del steps["FIRST_ORDER_UNTIL"]  # it is of second order
    return steps | {"INITIAL_RATE": winner.learner.hyper.initial_rate}


def protonet_settings(winner: Winner) -> dict[str, Any]:
    """Of a prototypical network."""
    hyper = winner.learner.hyper
    return {"DISTANCE": hyper.distance, "SCALE": hyper.scale, "LEARN_SCALE": hyper.learn_scale}
