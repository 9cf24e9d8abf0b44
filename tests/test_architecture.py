"""The house keeps its one way through: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "autometa"

BASE = {"errors", "registry"}
# part → the parts it may import, apart from itself
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "registry": {"errors"},
    "config": {"errors"},
    "learners": {"registry"},
    "backbones": BASE,
    "episodes": BASE,
    "engine": {"errors", "learners", "episodes"},
    "trial": {*BASE, "learners", "backbones", "episodes", "engine"},
    "search": {*BASE, "config", "trial", "learners", "backbones", "episodes", "engine"},
    "export": {*BASE, "config", "trial", "learners", "backbones", "search", "registration", ""},
    "report": {*BASE, "config", "learners", "backbones", "episodes", "search", ""},
    "registration": {*BASE, "learners", "backbones"},
    "api": {*BASE, "config", "search", "report", "export", "trial", "learners", "episodes"},
    "bench": {
        *BASE,
        "config",
        "trial",
        "learners",
        "backbones",
        "episodes",
        "search",
        "report",
    },
    "doctor": {*BASE, "config", "search", "episodes"},
    "cli": {
        *BASE,
        "bench",
        "doctor",
        "config",
        "search",
        "report",
        "export",
        "api",
        "episodes",
        "learners",
        "backbones",
    },
    "testing": {
        *BASE,
        "config",
        "trial",
        "learners",
        "backbones",
        "episodes",
        "engine",
        "search",
        "export",
    },
    "": {"api", "config", "errors", "registration"},
}
HEAVY = {"ray": {"search"}, "optuna": {"search", "report", "api", "bench"}, "nni": {"backbones"}}


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    first = relative.parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, at any depth."""
    package = ["autometa", *path.relative_to(PACKAGE).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(path)
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top != "autometa":
            continue
        target = rest.partition(".")[0]
        target = (
            target if (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").exists() else ""
        )
        assert target == part or target in ALLOWED[part], f"{path} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_stay_where_they_belong(path: Path) -> None:
    for name in imports_of(path):
        homes = HEAVY.get(name.partition(".")[0])
        assert homes is None or part_of(path) in homes, f"{path} must not import {name}"


def run(code: str) -> None:
    """In a process of its own, which has to succeed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_listing_names_costs_no_torch_import() -> None:
    code = (
        "import sys, autometa; autometa.learners(); autometa.datasets(); autometa.formats()\n"
        "heavy = {'torch', 'ray', 'optuna', 'nni', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run(code)


def test_learners_engine_and_episodes_need_torch_and_numpy_alone() -> None:
    code = (
        "import sys\n"
        "absent = ('ray', 'optuna', 'nni', 'pandas', 'pydantic', 'yaml')\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import autometa.learners.maml, autometa.learners.protonet, autometa.engine.train\n"
        "import autometa.engine.evaluate, autometa.episodes.sinusoid, autometa.episodes.images\n"
        "import autometa.backbones.conv4"
    )
    run(code)


def test_ray_optuna_nni_and_torch_live_in_one_process() -> None:
    code = (
        "import ray.tune, optuna, torch\n"
        "from autometa.backbones import BACKBONES\n"
        "space = BACKBONES.load('conv')()\n"
        "assert space.build(space.default(), (1, 28, 28)).features == 64"
    )
    run(code)


def test_functions_are_there_where_packages_of_their_name_are_imported() -> None:
    code = (
        "import autometa as am, autometa.learners.base as base\n"
        "import autometa.search.run, autometa.export.vendor, autometa.report.frames\n"
        "assert 'maml' in am.learners() and 'glyphs' in am.datasets()\n"
        "assert base.Learner and am.search.run.resume\n"
        "for call, given in ((am.search, ['no']), (am.export, ['no', 'x']), (am.report, ['no'])):\n"
        "    try:\n"
        "        call(*given)\n"
        "    except am.UserError as error:\n"
        "        assert \"'no'\" in str(error)\n"
        "    else:\n"
        "        raise AssertionError\n"
    )
    run(code)
