"""Baseline and Baseline++: pretrain on all classes at once, then fit a new head on the support set.

W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. Wang, J.-B. Huang: "A Closer Look at Few-shot
Classification", ICLR 2019, https://arxiv.org/abs/1904.04232

No episodes: the encoder and a classifier of all base classes are trained by cross-entropy
(section 3.1, training stage); then the encoder is frozen and a new classifier is trained on the
support set (fine-tuning stage). The classifier is linear (*Baseline*), or the cosine between
feature and class weight times a constant (*Baseline++*, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import (
    CLASSES,
    Hyper,
    Learner,
    Moment,
    Params,
    Task,
    class_means,
    initial_parameters,
    prefixed,
    under,
)
from .domains import Choice, Float, Int, hyper
from .gradients import inner_gradient


@dataclass(frozen=True)
class FinetuneHyper(Hyper):
    """The head and its fitting; the authors' program takes 100 epochs in batches of 4.

    Its SGD has a rate of 0.01, momentum and dampening of 0.9 and a weight decay of 0.001. Ours are
    full-batch steps without any of these, fewer of them, hence the higher default rate.
    """

    meta_batch: int = hyper(1, Choice((1, 2, 4)), "batches per step of pretraining")
    head: str = hyper(
        "linear", Choice(("linear", "cosine")), "linear is Baseline, cosine Baseline++"
    )
    scale: float = hyper(
        10.0, Float(2.0, 30.0, log=True), "factor of the cosines before the softmax"
    )
    head_steps: int = hyper(100, Int(10, 200, log=True), "gradient steps that fit the new head")
    head_lr: float = hyper(0.1, Float(1e-3, 1.0, log=True), "rate of those steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(0, "head_steps")
        self.above(0, "scale")


@dataclass(frozen=True)
class Finetune(Learner[FinetuneHyper]):
    """Parameters: ``encoder.*``; the base classes' ``head.weight``, [C, features] (``head.bias``).

    Nothing is meta-learned in the sense of episodes; ``train_classes`` is C.
    """

    paper: ClassVar[str] = "Chen et al. 2019, arXiv:1904.04232"
    any_ways: ClassVar[bool] = True
    trains_on: ClassVar[str] = CLASSES
    hyper_type: ClassVar[type[Hyper]] = FinetuneHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        linear = self.hyper.head == "linear"
        with torch.device("meta"):
            head = nn.Linear(self.encoder.features, self.train_classes, bias=linear)
        encoder = prefixed("encoder", self.encoder.init(generator))
        return encoder | prefixed("head", initial_parameters(head, generator))

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Cross-entropy over all base classes; the labels of a batch are the classes' own."""
        logits = self.classify(under("head", params), self.features(params, task.query_x))
        return self.loss(logits, task.query_y), logits

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The new head: ``weight`` [N, features], and if linear ``bias`` [N]."""
        features = self.features(params, support_x)

        def support_loss(head: Params) -> Tensor:
            return self.loss(self.classify(head, features), support_y)

        head = self._new_head(features, support_y, ways)
        for _ in range(self.hyper.head_steps):
            grads = inner_gradient(support_loss, head, through=True)
            head = {name: value - self.hyper.head_lr * grads[name] for name, value in head.items()}
        return head

    def predict(self, params: Params, fast: Params, query_x: Tensor) -> Tensor:
        return self.classify(fast, self.features(params, query_x))

    def features(self, params: Params, x: Tensor) -> Tensor:
        """[B, features] of the encoder."""
        return self.encoder(under("encoder", params), x)

    def classify(self, head: Params, features: Tensor) -> Tensor:
        """Logits of a linear or a cosine classifier."""
        if self.hyper.head == "linear":
            return F.linear(features, head["weight"], head["bias"])
        cosines = F.normalize(features, dim=-1) @ F.normalize(head["weight"], dim=-1).T
        return self.hyper.scale * cosines

    def _new_head(self, features: Tensor, support_y: Tensor, ways: int) -> Params:
        """Where fitting starts: 0, or for cosines, which 0 has none of, the mean of each class.

        The paper draws random weights; class means (Qi et al., "Low-shot learning with imprinted
        weights", CVPR 2018) make adaptation deterministic.
        """
        if self.hyper.head == "linear":
            weight = features.new_zeros(ways, features.shape[1])
            return {"weight": weight, "bias": features.new_zeros(ways)}
        return {"weight": class_means(F.normalize(features, dim=-1), support_y, ways)}
