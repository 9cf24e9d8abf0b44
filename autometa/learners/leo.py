"""LEO: gradient steps on a low-dimensional code from which a class's weights are decoded.

A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero, R. Hadsell: "Meta-Learning with
Latent Embedding Optimization", ICLR 2019, https://arxiv.org/abs/1807.05960

An encoder φ_e and a relation network φ_r read all pairs of support examples and give each class a
Gaussian over codes, z_n ~ N(μ_n^e, σ_n^e²) (section 2.3.2); a decoder φ_d turns a code into a
Gaussian over the weights of the class in a linear classifier, w_n ~ N(μ_n^d, σ_n^d²). The inner
loop takes gradient steps on the codes, z ← z − α ∇_z L (section 2.3.3), then a few on the decoded
weights ("fine-tuning"). The outer loop minimises the query loss through all of it, and keeps codes
near their prior, near where the inner loop takes them, and the decoder's columns independent
(section 2.3.4). Where the paper is silent this follows the authors' published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Hyper, Learner, Moment, Params, Task, class_means, prefixed, under
from .domains import Choice, Float, Int, hyper
from .gradients import inner_gradient

ENCODER, DECODER = "latent.weight", "decoder.weight"
RELATION = ("relation.fc1.weight", "relation.fc2.weight", "relation.fc3.weight")
LATENT_LR, FINETUNE_LR = "latent_lr", "finetune_lr"


@dataclass(frozen=True)
class LEOHyper(Hyper):
    """Steps, code and penalties; the defaults are those of the authors' code.

    The domains of the penalties hold what they found best on mini- and tieredImageNet, for 1 and 5
    shots (that code's README). Their outer rates there are 2.7e-4 to 8.7e-4, for features trained
    before; ours are trained along, for which the usual 1e-3 is the default.
    """

    meta_batch: int = hyper(12, Choice((1, 2, 4, 8, 12)), "tasks per meta-iteration")
    latents: int = hyper(64, Int(16, 128, log=True), "dimensions of a class's code")
    latent_steps: int = hyper(5, Int(1, 10), "gradient steps on the codes")
    finetune_steps: int = hyper(5, Int(0, 10), "gradient steps on the decoded weights")
    latent_lr: float = hyper(1.0, Float(0.1, 10.0, log=True), "initial, learned rate on codes")
    finetune_lr: float = hyper(
        1e-3, Float(1e-4, 0.1, log=True), "initial, learned rate on decoded weights"
    )
    kl_weight: float = hyper(1e-3, Float(1e-3, 2.0, log=True), "β, of the codes' divergence")
    encoder_penalty: float = hyper(
        1e-9, Float(1e-9, 1e-4, log=True), "γ, of the codes' way in the inner loop"
    )
    l2_penalty: float = hyper(1e-8, Float(1e-10, 1e-7, log=True), "λ1, of squared weights")
    orthogonality: float = hyper(
        1e-3, Float(1e-3, 0.2, log=True), "λ2, of the decoder's correlations"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "latents")
        steps = ("latent_steps", "finetune_steps")
        self.at_least(0, *steps, "kl_weight", "encoder_penalty", "l2_penalty", "orthogonality")


@dataclass(frozen=True)
class LEO(Learner[LEOHyper]):
    """Meta-parameters: ``encoder.*``, the backbone, which the paper pre-trains on the training
    classes and keeps fixed, but which is trained along here; ``latent.weight`` (φ_e),
    [L, features]; ``relation.fc1…3.weight`` (φ_r), [2L, 2L]; ``decoder.weight`` (φ_d),
    [2·features, L]; the learned rates ``latent_lr`` [L] and ``finetune_lr`` [features]. ``fast``:
    weights [N, features].

    Codes and weights are drawn in meta-training only; adapting takes the means. Left out are the
    paper's dropout of features, and its regression, for which a code is decoded to a whole network
    instead of a linear layer over features.
    """

    paper: ClassVar[str] = "Rusu et al. 2019, arXiv:1807.05960"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = LEOHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        latents, features = self.hyper.latents, self.encoder.features

        def glorot(outputs: int, inputs: int) -> Tensor:
            return nn.init.xavier_uniform_(torch.empty(outputs, inputs), generator=generator)

        return {
            **prefixed("encoder", self.encoder.init(generator)),
            ENCODER: glorot(latents, features),
            **{name: glorot(2 * latents, 2 * latents) for name in RELATION},
            DECODER: glorot(2 * features, latents),
            LATENT_LR: torch.full((latents,), float(self.hyper.latent_lr)),
            FINETUNE_LR: torch.full((features,), float(self.hyper.finetune_lr)),
        }

    def noise_size(self, params: Params, task: Task) -> int:
        """A draw of the codes, and one of the weights whenever codes are decoded."""
        decoded = (self.hyper.latent_steps + 1) * self.encoder.features
        return task.ways * (self.hyper.latents + decoded)

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Tensor:
        """The adapted weights [N, features], without draws; every class needs an example."""
        features = self._features(params, support_x)
        mean, _ = self._encode(params, features, support_y, ways)
        still = features.new_zeros(self.hyper.latent_steps + 1, ways, self.encoder.features)
        return self._inner_loop(params, features, support_y, mean, still)[0]

    def predict(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor:
        return F.linear(self._features(params, query_x), fast)

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """The query loss after the inner loop on drawn codes, and the penalties (section 2.3.4)."""
        hyper, drawn = self.hyper, task.ways * self.hyper.latents
        features = self._features(params, task.support_x)
        mean, log_std = self._encode(params, features, task.support_y, task.ways)
        z = mean + log_std.exp() * moment.noise[:drawn].reshape(mean.shape)
        draws = moment.noise[drawn:].reshape(-1, task.ways, self.encoder.features)
        weights, adapted = self._inner_loop(params, features, task.support_y, z, draws)
        prediction = self.predict(params, weights, task.query_x)
        # β and γ are of means over dimensions and classes, as in the code that they were tuned
        # for; the paper writes sums. The divergence there is estimated from the draw.
        loss = (
            self.loss(prediction, task.query_y)
            + hyper.kl_weight * divergence(mean, log_std)
            + hyper.encoder_penalty * (adapted.detach() - z).square().mean()
            + self._regularizer(params)
        )
        return loss, prediction

    def _features(self, params: Params, x: Tensor) -> Tensor:
        """The backbone's features scaled to length 1, as the authors' code does."""
        features = self.encoder(under("encoder", params), x)
        return features * (features.square().sum(-1, keepdim=True) + 1e-12).rsqrt()

    def _encode(self, params: Params, x: Tensor, y: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Means and log standard deviations [N, L] of the classes' codes.

        A class's are the mean of g_φr(g_φe(x), g_φe(x')) over its examples x and all examples x'
        (equation 3). The authors' code has e^s − 1 cut off at 0 for the standard deviation, so that
        its codes hardly vary at first; ours is e^s.
        """
        first, second, third = (params[name] for name in RELATION)
        codes = F.linear(x, params[ENCODER])
        # The first layer of a concatenated pair is a sum of two products; the last one, linear,
        # is left until the pairs are averaged.
        left, right = (F.linear(codes, half) for half in first.chunk(2, dim=1))
        pairs = F.relu(F.linear(F.relu(left[:, None] + right), second))
        relations = F.linear(pairs.mean(1), third)
        mean, log_std = class_means(relations, y, ways).chunk(2, dim=1)
        return mean, log_std

    def _decode(self, params: Params, z: Tensor, draw: Tensor) -> Tensor:
        """Weights [N, features] of codes, by a draw of standard normals."""
        mean, log_std = F.linear(z, params[DECODER]).chunk(2, dim=1)
        # The authors' code starts the standard deviations at Glorot's, by e^s − 1 + Glorot's cut
        # off at 0; a factor starts them there too and leaves them positive.
        scale = math.sqrt(2 / (draw.shape[0] + draw.shape[1]))
        return mean + scale * log_std.exp() * draw

    def _inner_loop(
        self, params: Params, x: Tensor, y: Tensor, z: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Adapted weights [N, features] and codes [N, L]; ``draws`` [steps + 1, N, features]."""

        def support_loss(weights: Tensor) -> Tensor:
            # The paper's sum over the support set, divided by the shots as in the authors' code.
            return len(weights) * self.loss(F.linear(x, weights), y)

        for draw in draws[:-1]:

            def latent_loss(z: Tensor, draw: Tensor = draw) -> Tensor:
                return support_loss(self._decode(params, z, draw))

            z = z - params[LATENT_LR] * _slope(latent_loss, z)
        weights = self._decode(params, z, draws[-1])
        for _ in range(self.hyper.finetune_steps):
            weights = weights - params[FINETUNE_LR] * _slope(support_loss, weights)
        return weights, z

    def _regularizer(self, params: Params) -> Tensor:
        """R: λ1 times the squares of φ_e, φ_r and φ_d, and λ2 times the decoder's correlations.

        The authors' code halves the squares. The paper's ‖C_d − I‖₂ of the correlations C_d of what
        the decoder does with each dimension of a code is the mean squared difference in that code,
        and here.
        """
        squares = sum(params[name].square().sum() for name in (ENCODER, *RELATION, DECODER))
        directions = F.normalize(params[DECODER], dim=0)
        identity = torch.eye(directions.shape[1], dtype=directions.dtype, device=directions.device)
        correlations = (directions.T @ directions - identity).square().mean()
        return self.hyper.l2_penalty * squares + self.hyper.orthogonality * correlations


def _slope(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient of a loss at a tensor."""
    return inner_gradient(lambda point: loss(point["at"]), {"at": at}, through=True)["at"]


def divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)), the mean over all numbers."""
    return ((2 * log_std).exp() + mean.square() - 1 - 2 * log_std).mean() / 2
