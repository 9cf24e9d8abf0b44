"""Meta-training and meta-evaluation of any learner on any tasks; checkpoints between."""

from autometa.engine.evaluate import Evaluation, meta_evaluate
from autometa.engine.strategies import ON_CPU, STRATEGIES, choose, meta_gradient, task_scores
from autometa.engine.train import Diverged, Progress, TrainState, meta_train

__all__ = [
    "ON_CPU",
    "STRATEGIES",
    "Diverged",
    "Evaluation",
    "Progress",
    "TrainState",
    "choose",
    "meta_evaluate",
    "meta_gradient",
    "meta_train",
    "task_scores",
]
