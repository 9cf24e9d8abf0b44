"""The copied learner imports the standard library, torch and its own package, nothing else."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autometa.errors import BundleError
from autometa.export.vendor import learner_sources
from autometa.learners import LEARNERS
from autometa.learners.base import Learner

OUTSIDE = '''"""A learner of somebody else."""

{imports}
from autometa.learners.protonet import ProtoNet


class Mine(ProtoNet):
    """Does what its parent does."""
'''


def foreign_imports(sources: dict[str, str]) -> set[str]:
    """What the files import that isn't among them, in the standard library, or torch."""
    found = set()
    for text in sources.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 1:
                found |= {str(node.module)} - {name.removesuffix(".py") for name in sources}
            elif isinstance(node, ast.ImportFrom):
                found.add(f"{'.' * node.level}{node.module}")
    return {name for name in found if name.partition(".")[0] not in allowed()}


def allowed() -> set[str]:
    return {*sys.stdlib_module_names, "torch"}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., type[Learner]]:  # type: ignore[type-arg]
    """A learner in a package of its own, which imports what it is told to."""

    def make(imports: str, module: str = "mine") -> type[Learner]:  # type: ignore[type-arg]
        package = tmp_path / "their_learners"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "helper.py").touch()
        (package / f"{module}.py").write_text(OUTSIDE.format(imports=imports))
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.startswith("their_learners")]:
            monkeypatch.delitem(sys.modules, name)
        made: type[Learner] = importlib.import_module(f"their_learners.{module}").Mine  # type: ignore[type-arg]
        return made

    return make


@pytest.mark.parametrize("name", list(LEARNERS))
def test_our_learners_need_torch_alone(name: str) -> None:
    sources = learner_sources(LEARNERS.load(name))
    assert {"__init__.py", "base.py", f"{name}.py"} <= set(sources)
    assert foreign_imports(sources) == set()


def test_a_learner_from_outside_is_copied_with_what_it_builds_on(
    outside: Callable[..., type[Learner]],  # type: ignore[type-arg]
) -> None:
    imports = "if True:\n    from autometa.learners.rates import RateVector"
    sources = learner_sources(outside(imports))
    assert {"mine.py", "protonet.py", "base.py", "rates.py"} <= set(sources)
    assert foreign_imports(sources) == set()


@pytest.mark.parametrize(
    ("imports", "told"),
    [
        ("import numpy as np", "imports 'numpy'"),
        ("from numpy import random", "imports 'numpy'"),
        ("import autometa.learners.base", "imports 'autometa.learners.base'"),
        ("from autometa.learners import LEARNERS", "imports 'autometa.learners'"),
        ("from autometa.episodes.task import Task", "imports 'autometa.episodes.task'"),
        ("from .helper import *", "imports 'their_learners.helper'"),
    ],
)
def test_a_learner_that_imports_more_is_refused(
    outside: Callable[..., type[Learner]],  # type: ignore[type-arg]
    imports: str,
    told: str,
) -> None:
    with pytest.raises(BundleError, match=told):
        learner_sources(outside(imports))


def test_a_module_with_the_name_of_one_of_ours_is_refused(
    outside: Callable[..., type[Learner]],  # type: ignore[type-arg]
) -> None:
    with pytest.raises(BundleError, match="two modules of the learner are named 'base'"):
        learner_sources(outside("", module="base"))
