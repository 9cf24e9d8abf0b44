"""Every registered learner: searched, refused where it can't serve, taken away as a bundle."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from autometa.backbones import BACKBONES, layers
from autometa.config import SpaceConfig
from autometa.errors import ConfigError
from autometa.export.bundle import INIT, model_source, write_files
from autometa.export.vendor import learner_sources
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSIFICATION, REGRESSION, Encoder
from autometa.learners.hyper_json import from_json
from autometa.report.listing import learner_table
from autometa.search.space import RandomSuggest, build_space
from autometa.trial import TrialSpec

IMAGE = (1, 28, 28)
WAYS = 5


def spec(name: str, hyper: dict[str, Any]) -> TrialSpec:
    task = {"ways": WAYS, "shots": 1, "queries": 2}
    return TrialSpec(name, hyper, "conv4", {"width": 32}, "glyphs", {}, task, 0, 1, 1, 2)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_the_listing_names_every_hyper_parameter(name: str) -> None:
    table = learner_table(name)
    fields = LEARNERS.load(name).hyper_type.__dataclass_fields__
    assert list(table.columns[0].cells) == list(fields)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_its_published_domains_give_valid_candidates(name: str) -> None:
    config = SpaceConfig(learners={name: {}}, backbones={"conv4": {"width": 32}})
    space = build_space(config, IMAGE, CLASSIFICATION)
    seen = set()
    for seed in range(5):
        candidate = space.sample(RandomSuggest(seed))
        hyper = from_json(LEARNERS.load(name).hyper_type, candidate.hyper)
        seen.add(repr(hyper))
    assert len(seen) > 1


@pytest.mark.parametrize("name", list(LEARNERS))
def test_regression_is_served_or_refused_when_the_configuration_is_read(name: str) -> None:
    config = SpaceConfig(learners={name: {}}, backbones={"mlp": {}})
    if REGRESSION in LEARNERS.load(name).problems:
        build_space(config, (1,), REGRESSION)
    else:
        with pytest.raises(ConfigError, match=f"learner '{name}' can't do regression"):
            build_space(config, (1,), REGRESSION)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_a_bundle_of_it_gives_the_same_logits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = BACKBONES.load("conv4")().build({"width": 32}, IMAGE)
    cls = LEARNERS.load(name)
    learner = cls(Encoder(backbone.module, backbone.features), cls.hyper_type(), train_classes=7)
    params = learner.init(WAYS, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    support_x, query_x = torch.rand(2, 2 * WAYS, *IMAGE, generator=generator)
    support_y = torch.arange(WAYS).repeat(2)
    with torch.no_grad():
        fast = learner.adapt(params, support_x, support_y, WAYS)
        expected = learner.predict(params, fast, query_x)
    files = {
        "__init__.py": INIT,
        "model.py": model_source(learner, IMAGE, spec(name, {}), name),
        "layers.py": inspect.getsource(layers),
        **{f"learner/{file}": text for file, text in learner_sources(cls).items()},
    }
    write_files(tmp_path / f"bundle_of_{name}", files, params)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        loaded = importlib.import_module(f"bundle_of_{name}").load()
        actual = loaded.adapt(support_x, support_y)(query_x)
    finally:
        for module in [m for m in sys.modules if m.startswith(f"bundle_of_{name}")]:
            del sys.modules[module]
    assert "autometa" not in type(loaded.learner).__module__
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
