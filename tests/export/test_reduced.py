"""What a bundle takes of a script: the learner and what it names, and nothing else."""

from __future__ import annotations

import ast

import pytest

from autometa.errors import BundleError
from autometa.export.reduced import reduced

SCRIPT = '''"""A script."""
from __future__ import annotations

import os, torch
import numpy as np
import autometa as am
from autometa.learners.base import Learner

FACTOR = 2.0
OTHER = np.zeros(3)  # not needed


def halved(x):
    # a remark
    return [each / FACTOR for each in x]


def unrelated():
    return os.getcwd()


class Base:
    pass


def decorated(cls):
    return cls


@am.register_learner(
    "mine"
)
@decorated
class Mine(Base):
    """Mine."""

    def adapt(self, x):
        try:
            return halved(torch.as_tensor(x))
        except ValueError as error:
            raise KeyError from error


if __name__ == "__main__":
    study = am.search("quickstart")
'''
EXPECTED = '''from __future__ import annotations
import os, torch
FACTOR = 2.0


def halved(x):
    # a remark
    return [each / FACTOR for each in x]


class Base:
    pass


def decorated(cls):
    return cls


@decorated
class Mine(Base):
    """Mine."""

    def adapt(self, x):
        try:
            return halved(torch.as_tensor(x))
        except ValueError as error:
            raise KeyError from error
'''


def test_only_what_the_class_needs_is_left() -> None:
    assert reduced(SCRIPT, "Mine") == EXPECTED


def test_what_is_left_stands_alone() -> None:
    scope: dict[str, object] = {"__name__": "bundle"}
    exec(compile(ast.parse(reduced(SCRIPT, "Mine")), "bundle", "exec"), scope)
    assert scope["Mine"]().adapt([2.0, 4.0]) == [1.0, 2.0]  # type: ignore[operator]


def test_a_name_that_is_defined_elsewhere_is_refused() -> None:
    with pytest.raises(BundleError, match=r"Mine uses 'FACTOR'.* into one file or cell"):
        reduced(SCRIPT.replace("FACTOR = 2.0", ""), "Mine")


def test_a_class_without_source_is_refused() -> None:
    with pytest.raises(BundleError, match="source of the learner Mine can't be found"):
        reduced("", "Mine")
