"""The contract of a backbone space as a test suite; your own space joins by subclassing.

class TestMySpace(BackboneSpaceTestCase):
    in_shape = (3, 32, 32)

    @pytest.fixture
    def space(self):
        return MySpace()
"""

from __future__ import annotations

import copy
import json
import random
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from autometa.backbones.base import Backbone, BackboneSpace, Option, Shape
from autometa.errors import ConfigError
from autometa.learners.base import Params, initial_parameters


def random_sample(space: BackboneSpace, in_shape: Shape, seed: int) -> dict[str, Option]:
    """A sample of a space, drawn label by label as a search draws it."""
    rng = random.Random(seed)
    sample: dict[str, Option] = {}
    for label, options in space.choices(in_shape).items():
        if space.active(label, sample):
            sample[label] = rng.choice(options)
    return sample


class BackboneSpaceTestCase:
    """What every backbone space satisfies. Subclasses give a ``space`` fixture."""

    in_shape: ClassVar[Shape] = (1, 28, 28)
    samples: ClassVar[int] = 8

    @pytest.fixture
    def space(self) -> BackboneSpace:
        raise NotImplementedError

    @pytest.fixture(params=range(8))
    def sample(self, request: pytest.FixtureRequest, space: BackboneSpace) -> dict[str, Option]:
        return random_sample(space, self.in_shape, int(request.param))

    def weights(self, backbone: Backbone) -> Params:
        drawn = initial_parameters(backbone.module, torch.Generator().manual_seed(0))
        return {name: value.double() for name, value in drawn.items()}

    def inputs(self, count: int) -> Tensor:
        shape = (count, *self.in_shape)
        return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def test_default_is_a_member(self, space: BackboneSpace) -> None:
        space.check(space.default(), self.in_shape)
        assert space.build(space.default(), self.in_shape).parameters > 0

    def test_sample_survives_json(self, space: BackboneSpace, sample: dict[str, Option]) -> None:
        again = json.loads(json.dumps(sample))
        names = space.build(sample, self.in_shape).parameter_names
        assert space.build(again, self.in_shape).parameter_names == names

    def test_measures_are_those_of_the_network(
        self, space: BackboneSpace, sample: dict[str, Option]
    ) -> None:
        backbone = space.build(sample, self.in_shape)
        network = space.network(sample, self.in_shape)
        assert backbone.parameters == sum(p.numel() for p in network.parameters())
        output = functional_call(backbone.module, self.weights(backbone), (self.inputs(3),))
        assert output.shape == (3, backbone.features)
        assert backbone.macs > 0

    def test_build_leaves_the_sample_alone(
        self, space: BackboneSpace, sample: dict[str, Option]
    ) -> None:
        before = copy.deepcopy(sample)
        space.build(sample, self.in_shape)
        assert sample == before

    def test_no_hidden_state(self, space: BackboneSpace, sample: dict[str, Option]) -> None:
        backbone = space.build(sample, self.in_shape)
        assert not list(backbone.module.buffers())
        weights, x = self.weights(backbone), self.inputs(4)
        first = functional_call(backbone.module, weights, (x,))
        assert torch.equal(first, functional_call(backbone.module, weights, (x,)))

    def test_layers_name_the_parameters(
        self, space: BackboneSpace, sample: dict[str, Option]
    ) -> None:
        names = space.build(sample, self.in_shape).parameter_names
        assert all(name.count(".") >= 1 for name in names)

    def test_unknown_label_or_option_is_refused(self, space: BackboneSpace) -> None:
        default = space.default()
        with pytest.raises(ConfigError, match="nonsense"):
            space.build({**default, "nonsense": 1}, self.in_shape)
        label = next(iter(default))
        with pytest.raises(ConfigError, match=label):
            space.build({**default, label: "nonsense"}, self.in_shape)

    def test_missing_label_is_refused(self, space: BackboneSpace) -> None:
        default = space.default()
        label = next(iter(default))
        rest = {name: option for name, option in default.items() if name != label}
        with pytest.raises((ConfigError, KeyError)):
            space.build(rest, self.in_shape)

    def test_wrong_rank_is_refused(self, space: BackboneSpace) -> None:
        with pytest.raises(ConfigError, match="dimensions"):
            space.check(space.default(), (*self.in_shape, 2))

    def test_second_order_gradients_are_exact(
        self, space: BackboneSpace, sample: dict[str, Option]
    ) -> None:
        """MAML's meta-gradient through the network: vmap against finite differences, float64."""
        backbone = space.build(sample, self.in_shape)
        weights, x = self.weights(backbone), self.inputs(16).reshape(2, 8, *self.in_shape)

        def objective(params: Params, one: Tensor) -> Tensor:
            def inner(p: Params) -> Tensor:
                return functional_call(backbone.module, p, (one,)).sin().mean()  # type: ignore[no-any-return]

            inner_grads = grad(inner)(params)
            return inner({name: params[name] - 0.1 * inner_grads[name] for name in params})

        batched = vmap(grad(objective), in_dims=(None, 0))(weights, x)
        generator = torch.Generator().manual_seed(2)
        direction = {
            name: torch.randn(value.shape, dtype=torch.float64, generator=generator)
            for name, value in weights.items()
        }
        analytic = sum((batched[name].sum(0) * direction[name]).sum() for name in weights)

        def shifted(size: float) -> Tensor:
            moved = {name: value + size * direction[name] for name, value in weights.items()}
            return objective(moved, x[0]) + objective(moved, x[1])

        # A step that crosses a kink of ReLU or max pooling tells nothing: the best of several.
        numeric = [(shifted(h) - shifted(-h)) / (2 * h) for h in (1e-6, 1e-7, 1e-8)]
        assert min(abs(float(n / analytic) - 1) for n in numeric) < 1e-4
