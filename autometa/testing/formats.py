"""What every export format must satisfy, as a pytest suite to inherit from.

A format of your own joins in a few lines::

    from autometa.testing.formats import FormatTestCase
    from mypackage import MyFormat


    class TestMine(FormatTestCase):
        format = MyFormat

        def predictions(self, folder, support_x, support_y, query_x):
            return mypackage.load(folder).predict(support_x, support_y, query_x)

Winners are small: a learner on 3-way 1-shot images [1, 16, 16] (``maml-regression``: sinusoids),
after three meta-iterations.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from packaging.requirements import Requirement
from torch import Tensor

from autometa import errors
from autometa.errors import BundleError
from autometa.export.formats.base import Format, Winner
from autometa.testing.winners import trained

# case → learner, backbone
CASES = {
    "protonet": ("protonet", "conv"),
    "relation": ("relation", "conv"),
    "maml": ("maml", "conv"),
    "maml-regression": ("maml", "mlp"),
}


class FormatTestCase:
    """The contract of a format.

    Attributes:
        format: The class under test.
        accepted: The winners, by the names of :data:`CASES`, that it has a place for.
        tolerance: Of predictions with what was written, beside the learner's own.
        same_bytes: Whether a second export of a winner has the same bytes.
    """

    format: ClassVar[type[Format]]
    accepted: ClassVar[frozenset[str]] = frozenset(CASES)
    tolerance: ClassVar[float] = 1e-5
    same_bytes: ClassVar[bool] = True

    def predictions(
        self, folder: Path, support_x: Tensor, support_y: Tensor, query_x: Tensor
    ) -> Tensor | None:
        """Logits [Q, N] (means [Q, D]) of a task by what was written; None of a format without."""
        return None

    @pytest.fixture(params=list(CASES))
    def case(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def winner(self, case: str, tmp_path_factory: pytest.TempPathFactory) -> Winner:
        return made_once(tmp_path_factory.getbasetemp() / "winners" / case)

    @pytest.fixture
    def taken(self, case: str, winner: Winner) -> Winner:
        """A winner that the format has a place for."""
        if case not in self.accepted:
            pytest.skip(f"{self.format.__name__} says that it has no place for {case}")
        return winner

    @pytest.fixture
    def written(self, case: str, taken: Winner, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """What the format writes of it; written once, since some take seconds."""
        into = tmp_path_factory.getbasetemp() / "written" / type(self).__name__ / case / "here"
        if not into.exists():
            into.mkdir(parents=True)
            self.format().write(taken, into)
        return into

    def test_it_says_what_it_is_in_a_line(self) -> None:
        assert self.format.summary
        assert "\n" not in self.format.summary
        assert not self.format.summary.endswith(".")
        for each in self.format.needs:
            Requirement(each)

    def test_it_has_no_state(self) -> None:
        assert vars(self.format()) == {}

    def test_it_refuses_what_it_has_no_place_for_in_a_sentence(
        self, case: str, winner: Winner
    ) -> None:
        if case in self.accepted:
            self.format().check(winner)
            return
        with pytest.raises(BundleError) as raised:
            self.format().check(winner)
        assert "\n" not in str(raised.value)
        assert not str(raised.value).endswith(".")

    def test_losses_are_clauses_and_the_same_again(self, taken: Winner) -> None:
        losses = self.format().losses(taken)
        assert losses == self.format().losses(taken)
        for each in losses:
            assert each
            assert "\n" not in each
            assert not each.endswith(".")

    def test_a_second_export_is_the_same_and_leaves_the_winner_alone(
        self, written: Path, taken: Winner, tmp_path: Path
    ) -> None:
        before = contents(taken.folder.path)
        params = {name: value.clone() for name, value in taken.params.items()}
        form, again = self.format(), tmp_path / "again"
        form.check(taken)
        form.losses(taken)
        again.mkdir()
        form.write(taken, again)
        assert contents(taken.folder.path) == before
        assert params.keys() == taken.params.keys()
        assert all(torch.equal(value, taken.params[name]) for name, value in params.items())
        one, other = contents(written), contents(again)
        assert one.keys() == other.keys()
        assert not self.same_bytes or one == other

    def test_files_are_in_the_folder_and_nowhere_else(self, written: Path) -> None:
        assert contents(written)
        assert [path.name for path in written.parent.iterdir()] == [written.name]

    def test_no_file_tells_where_it_was_made(self, taken: Winner, written: Path) -> None:
        """Whoever gets it need not know the folders of another's machine."""
        package = Path(errors.__file__).parent
        private = [str(each).encode() for each in (taken.folder.path, package, written)]
        for name, content in contents(written).items():
            assert not [each for each in private if each in content], name

    def test_predictions_are_the_learners_own(self, taken: Winner, written: Path) -> None:
        task = task_of(taken)
        found = self.predictions(written, *task)
        if found is None:
            pytest.skip(f"{self.format.__name__} is not for predictions of {taken.spec.learner}")
        torch.testing.assert_close(found, expected(taken, task), rtol=0, atol=self.tolerance)


@cache
def made_once(path: Path) -> Winner:
    """Training is the longest part of a test; the contract has it that winners are left alone."""
    return trained(path, *CASES[path.name], name=path.name)


def contents(folder: Path) -> dict[str, bytes]:
    """Path in a folder → bytes of the file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def task_of(winner: Winner) -> tuple[Tensor, Tensor, Tensor]:
    """Support set and queries of a task with the ways and shots of the study, of noise."""
    generator = torch.Generator().manual_seed(5)
    task, shape = winner.spec.task, winner.in_shape
    regression = winner.learner.problem == "regression"
    rows = task["shots"] if regression else task["ways"] * task["shots"]
    x, queries = (torch.rand(n, *shape, generator=generator) for n in (rows, 7))
    y = torch.arange(task["ways"]).repeat_interleave(task["shots"])
    if regression:
        y = torch.rand(rows, task["ways"], generator=generator)
    return x, y, queries


def expected(winner: Winner, task: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What the learner itself makes of a task."""
    x, y, queries = task
    fast = winner.learner.adapt(winner.params, x, y, winner.spec.ways)
    return winner.learner.predict(winner.params, fast, queries).detach()
