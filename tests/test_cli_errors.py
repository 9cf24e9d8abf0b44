"""What a user can do wrong, as they see it: exit code 2, one sentence, and nothing left behind."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS

from autometa import load_bundle
from autometa.config import load_config
from autometa.errors import BundleError

Command = Callable[..., Any]
pytestmark = RAY_WARNINGS

FIELDS = [
    ("name=a/b", "field 'name' is 'a/b', but it should match pattern"),
    ("seed=-1", "field 'seed' is -1, but it should be greater than or equal to 0"),
    ("sampler.name=tpee", "sampler.name: sampler 'tpee' is unknown: did you mean 'tpe'?"),
    ("scheduler.name=ashaa", "field 'scheduler.name' is 'ashaa': did you mean 'asha'? valid names"),
    ("objectives=[acuracy]", "field 'objectives.0' is 'acuracy': did you mean 'accuracy'?"),
    ("budgt.trials=3", "field 'budgt' is unknown: did you mean 'budget'? valid names are address,"),
    ("budget.trails=3", "field 'budget.trails' is unknown: did you mean 'trials'?"),
    ("budget.trials=many", "field 'budget.trials' is 'many', but must be a whole number"),
    ("budget.trials=2.5", "field 'budget.trials' is 2.5, but must be a whole number"),
    ("budget=3", "field 'budget' is 3, but must be a mapping"),
    ("validation.every=50", "validation.every is 50, but must be at most budget.iterations (12)"),
    ("space.learners=[]", "field 'space.learners' is {}, but must name at least one"),
    ("space.learners=[mamll]", "learner 'mamll' is unknown: did you mean 'maml'?"),
    ("space.learners=[protonet]", "learner 'protonet' can't do regression"),
    ("space.backbones=[mpl]", "backbone 'mpl' is unknown: did you mean 'mlp'?"),
    ("space.backbones=[conv]", "backbone 'conv' reads inputs of 3 dimensions"),
    ("data.name=sinusiod", "data set 'sinusiod' is unknown: did you mean 'sinusoid'?"),
    ("data.options.amplitud=9", "option 'amplitud' of the data set 'sinusoid' is unknown"),
    ("data.options.x_limit=far", "x_limit is 'far', but must be a number"),
    ("task.ways=3", "ways is 3, but a sinusoid has 1 output"),
    ("baseline.learner=mamll", "learner 'mamll' is unknown: did you mean 'maml'?"),
    ("baseline.hyper.inner_stps=3", "baseline.hyper.inner_stps is unknown: did you mean"),
    ("baseline.hyper.inner_steps=x", "baseline.hyper.inner_steps is 'x', but must be a whole"),
    ("baseline.hyper.inner_steps=[1, 2]", "is [1, 2], but must be a single value"),
    ("storage=3", "field 'storage' is 3, but must be text"),
]

DOMAINS = [
    ("inner_stps=3", "is unknown: did you mean 'inner_steps'?"),
    ("order=secnd", "is 'secnd': did you mean 'second'? valid names are"),
    ("inner_lr={modes: [serched]}", "holds 'serched': did you mean 'searched'?"),
    ("inner_steps=2.5", "is 2.5, but must be a whole number"),
    ("inner_steps=0", "is 0, but must be above 0"),
    ("inner_steps={low: 5, high: 1}", "has low 5 above high 1: swap them"),
    ("inner_steps={low: 0, high: 1}", "is 0, but must be above 0"),
    ("meta_batch=[0, 4]", "is 0, but must be above 0"),
    ("meta_lr={low: 0.0}", "is searched on a log scale, so low (0) must be above 0"),
    ("inner_lr={low: 0.5, high: 0.1}", "has low 0.5 above high 0.1: swap them"),
    ("inner_lr=-1", "holds -1, but a rate must be finite and not below 0"),
    ("augment=affine", "augment is 'affine', but sinusoids have none: set it to 'none'"),
]

IMAGES = [
    ("imagefolder, options: {root: nowhere}", "", "nowhere doesn't exist: name a folder or a zip"),
    ("imagefolder, options: {root: file.txt}", "", "file.txt isn't a readable zip"),
    ("imagefolder, options: {root: bad.zip}", "", "bad.zip isn't a readable zip"),
    (
        "imagefolder, options: {root: bad_image.zip}",
        "",
        r"class03/2.png in .*bad_image.zip isn't a readable image: mend or remove it",
    ),
    (
        "imagefolder, options: {root: images.zip}",
        "{ways: 2, shots: 2, queries: 5}",
        r"has the class '.*' with 6 images, but 2 shots and 5 queries take 7: lower shots or",
    ),
    (
        "imagefolder, options: {root: images.zip}",
        "{ways: 5, shots: 1, queries: 5}",
        "ways is 5, but imagefolder: the validation split has 2 classes: lower ways",
    ),
    ("glyphs", "{ways: 5000}", "ways is 5000, but glyphs: the validation split has 129 classes"),
    (
        "omniglot, options: {root: mine, rotations: trian}",
        "",
        "rotations is 'trian', but must be one of .* .did you mean 'train'",
    ),
    ("omniglot, options: {root: nowhere}", "", "root is '.*nowhere', but must be a folder with"),
    ("omniglot, options: {root: mine}", "", "mine has none of images_background.zip"),
    ("omniglot", "", "the data set 'omniglot' needs the option 'root'"),
]

COMMANDS = [
    (
        "search quikstart",
        "search space 'quikstart' is neither a file nor one of ours: did you mean",
    ),
    ("search missing.yaml", "'missing.yaml' can't be read: No such file or directory"),
    ("search binary.yaml", "'binary.yaml' can't be read: it is no UTF-8 text"),
    ("search broken.yaml", "broken.yaml is no valid YAML: .* in line 2, column 5"),
    ("search list.yaml", r"list.yaml must hold a mapping of fields, but holds \['maml',"),
    ("search empty.yaml", "empty.yaml must hold a mapping of fields, but holds None"),
    ("search small.yaml --time soon", "'budget.time' is 'soon', but must be a duration such as"),
    ("search small.yaml --time ''", "'budget.time' is '', but must be a duration such as 90s"),
    ("search small.yaml --trials 0", "'budget.trials' is 0, but it should be greater than or"),
    ("search small.yaml --set seed", "--set 'seed' must look like FIELD=VALUE"),
    ("search small.yaml --set seed=[", r"--set 'seed=\[': '\[' is no valid YAML value"),
    ("search small.yaml --quiet --json", "--quiet and --json were both given: choose one"),
    ("search small.yaml --out mine", "'mine' exists already: go on with `autometa resume mine`"),
    ("search small.yaml --out file.txt/study", r"can't be made \(.*file.txt\): choose another"),
    ("search small.yaml --warm-start mine", "'.*/mine' is no study folder: it has no study.yaml"),
    ("search small.yaml --warm-start nowhere --dry-run", "study folder '.*/nowhere' doesn't exist"),
    ("bench warm-start mine file.txt", "'mine' has 0 recorded trials, but needs 40"),
    ("status mine", "'mine' is no study folder: it has no study.yaml"),
    ("status file.txt", "'file.txt' is no folder: name one that `autometa search` made"),
    ("resume mine", "'mine' is no study folder"),
    ("resume nowhere", "study folder 'nowhere' doesn't exist"),
    ("report mine", "'mine' is no study folder"),
    ("export mine --to bundle", "'mine' is no study folder"),
    ("export mine --config-only yaml", "'mine' is no study folder"),
    ("export mine", "export needs --to DIR, a folder to write, or --config-only FORMAT"),
    ("export mine --config-only yml", "format 'yml' is unknown: did you mean 'yaml'?"),
    ("export mine --to new --format cofnig", "format 'cofnig' is unknown: did you mean 'config'?"),
    ("export mine --to new --format cofnig --lossy", "format 'cofnig' is unknown"),
    ("watch mine", "'mine' is no study folder: it has no study.yaml"),
    ("watch nowhere --json", "study folder 'nowhere' doesn't exist: name one that"),
    ("learners mamll", "learner 'mamll' is unknown: did you mean 'maml'?"),
    ("backbones cnov", "backbone 'cnov' is unknown: did you mean 'conv'?"),
    ("data show glyhps", "data set 'glyhps' is unknown: did you mean 'glyphs'?"),
    ("data show sinusoid --set x_limit", "--set 'x_limit' must look like FIELD=VALUE"),
    ("data show sinusoid --out file.txt/x.png", "the picture file.txt/x.png can't be written"),
    ("data show sinusoid --out mine", "the picture 'mine' is a folder: name a file"),
    ("data show sinusoid --out ''", "the picture '.' is a folder: name a file"),
]

USAGE = ["", "nonsense", "search", "status", "search small.yaml --trials x", "search x --bogus"]


@pytest.mark.parametrize(("assignment", "message"), FIELDS)
def test_a_wrong_field(refused: Command, assignment: str, message: str) -> None:
    assert message in refused("search", "small.yaml", "--out", "study", "--set", assignment)


@pytest.mark.parametrize(("assignment", "message"), DOMAINS)
def test_an_impossible_domain(refused: Command, assignment: str, message: str) -> None:
    field = f"space.learners.maml.{assignment}"
    error = refused("search", "small.yaml", "--out", "study", "--set", field)
    assert message in error
    assert assignment.partition("=")[0] in error


@pytest.mark.parametrize(("data", "task", "message"), IMAGES)
def test_data_that_are_missing_damaged_or_too_few(
    refused: Command, monkeypatch: pytest.MonkeyPatch, data: str, task: str, message: str
) -> None:
    if data == "glyphs":  # drawn in seconds: not once more for this
        monkeypatch.delenv("AUTOMETA_CACHE")
    changes = ["--set", f"data={{name: {data}}}", *(["--set", f"task={task}"] if task else [])]
    assert re.search(message, refused("search", "quickstart", "--out", "study", *changes))


@pytest.mark.parametrize(("line", "message"), COMMANDS)
def test_a_wrong_command(refused: Command, line: str, message: str) -> None:
    assert re.search(message, refused(*shlex.split(line)))


def test_a_ray_that_began_for_a_search_that_is_refused_is_ended(refused: Command) -> None:
    """Otherwise the next search would find it running, whatever address it asks for."""
    small = ("search", "small.yaml", "--out", "study")
    assert "can't be used" in refused(*small, "--storage", "sqlite:///nowhere/x.db")
    assert "can't be reached" in refused(*small, "--address", "127.0.0.1:1")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_a_cluster_that_cannot_be_reached(refused: Command, address: str) -> None:
    error = refused("search", "small.yaml", "--out", "study", "--address", address)
    assert f"Ray at address {address!r} can't be reached" in error


def test_a_password_is_not_printed_by_a_dry_run(autometa: Command, place: Path) -> None:
    url = "postgresql://me:secret@host/x"
    ended = autometa("search", "small.yaml", "--dry-run", "--storage", url)
    assert ended.code == 0
    assert "storage: postgresql://me:***@host/x" in ended.out
    assert "secret" not in ended.out + ended.err


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage_ends_with_the_same_code(autometa: Command, place: Path, line: str) -> None:
    ended = autometa(*shlex.split(line))
    assert ended.code == 2
    assert "Traceback" not in ended.err


@pytest.fixture
def unfinished(place: Path) -> Path:
    """A study without a trial yet."""
    from autometa.search.folder import create_folder
    from autometa.search.study import create_study, storage_of

    config = load_config("small.yaml", fields={"out": "study"})
    create_folder(config, {"name": "sinusoid", "fingerprint": "0"})
    create_study(config, storage_of(config), "minimize")
    return place / "study"


@pytest.mark.parametrize("command", ["status", "watch", "resume", "report"])
def test_a_study_folder_is_misspelt(unfinished: Path, refused: Command, command: str) -> None:
    assert "study folder 'stduy' doesn't exist: did you mean 'study'?" in refused(command, "stduy")


@pytest.mark.parametrize(
    ("line", "nearest"),
    [("serach small.yaml", "'search'"), ("search small.yaml --trails 3", "--trials")],
)
def test_commands_and_options_are_suggested(
    autometa: Command, place: Path, line: str, nearest: str
) -> None:
    ended = autometa(*shlex.split(line))
    assert ended.code == 2
    assert nearest in ended.err


@pytest.mark.parametrize("options", [("--to", "bundle"), ("--config-only", "toml")])
def test_a_study_has_no_winner_yet(
    unfinished: Path, refused: Command, options: tuple[str, ...]
) -> None:
    error = refused("export", "study", *options)
    assert "study 'study' has no winner yet: run `autometa resume study`" in error


def test_an_earlier_study_has_no_complete_trial(unfinished: Path, refused: Command) -> None:
    error = refused("search", "small.yaml", "--out", "new", "--warm-start", "study")
    assert re.search("warm_start: study '.*/study' has no complete trial to learn from", error)


def test_the_data_of_a_study_have_changed(unfinished: Path, refused: Command) -> None:
    assert "the data of study 'study' have changed since it was begun" in refused("resume", "study")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no bundle: it has no __init__.py"),
        ({"__init__.py": "def load(:"}, "is damaged: "),
        ({"__init__.py": "from .model import load"}, "is damaged: No module named"),
        ({"__init__.py": ""}, "is damaged: .* has no attribute 'load'"),
    ],
)
def test_a_folder_that_is_no_bundle(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BundleError, match=message) as raised:
        load_bundle(tmp_path)
    assert raised.value.exit_code == 2
