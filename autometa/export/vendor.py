"""The source files that a learner needs, copied so that they run without autometa."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from autometa.errors import BundleError
from autometa.export.reduced import reduced
from autometa.learners.base import Learner
from autometa.registration import SOURCE

PACKAGE = "autometa.learners"
HEADER = '"""The meta-learner, as autometa has it (Apache-2.0); torch only."""\n'


def learner_sources(learner: type[Learner]) -> dict[str, str]:  # type: ignore[type-arg]
    """File name → text of the package ``learner/``: the learner's module and all it imports.

    Raises:
        BundleError: The learner imports something that a bundle doesn't carry.
    """
    first = sys.modules[learner.__module__]
    sources = {"__init__.py": HEADER}
    waiting, seen = [first], set[ModuleType]()
    while waiting:
        module = waiting.pop()
        if module is first:
            name, text = module_of(learner), _own_text(learner, first)
        else:
            name = module.__name__.rpartition(".")[2]
            text = Path(inspect.getfile(module)).read_text(encoding="utf-8")
        source = re.sub(rf"^( *)from {re.escape(PACKAGE)}\.", r"\1from .", text, flags=re.M)
        known = sources.setdefault(f"{name}.py", source)
        if known != source:
            raise BundleError(f"two modules of the learner are named {name!r}: rename yours")
        seen.add(module)
        waiting += [each for each in _imported(module, text) if each not in seen]
    return sources


def module_of(learner: type[Learner]) -> str:  # type: ignore[type-arg]
    """The name of a learner's module in a bundle; a script or notebook has none."""
    name = learner.__module__.rpartition(".")[2]
    return learner.__name__.lower() if name == "__main__" else name


def _own_text(learner: type[Learner], module: ModuleType) -> str:  # type: ignore[type-arg]
    """The source of a learner's module; of one that a program registered, what it needs of it."""
    text = vars(learner).get(SOURCE)
    if text is not None:
        return reduced(text, learner.__name__)
    return Path(inspect.getfile(module)).read_text(encoding="utf-8")


def _imported(module: ModuleType, text: str) -> list[ModuleType]:
    """The modules of the learners' package that a module's source imports."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [_absolute(node, module)]
        else:
            continue
        for name in names:
            if isinstance(node, ast.ImportFrom) and name.startswith(f"{PACKAGE}."):
                found.append(importlib.import_module(name))
            elif name.partition(".")[0] not in {*sys.stdlib_module_names, "torch"}:
                raise BundleError(
                    f"{module.__name__} imports {name!r}, which a bundle doesn't carry: "
                    f"a learner may import torch, and names `from {PACKAGE}.<module>`, alone"
                )
    return found


def _absolute(node: ast.ImportFrom, module: ModuleType) -> str:
    """The module that ``from … import`` names, relative or not."""
    name = "." * node.level + (node.module or "")
    return importlib.util.resolve_name(name, module.__package__)
