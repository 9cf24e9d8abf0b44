"""What tests of all parts share, and the order of their files.

The ``autometa`` command in this process, a folder with things to give it, sound and bad, and a Ray
for searches.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

SMALL_YAML = """\
name: small
data: {name: sinusoid}
task: {ways: 1, shots: 10, queries: 10}
space:
  learners: {maml: {inner_steps: [1, 2], inner_lr: {low: 0.001, high: 0.05}}}
  backbones: {mlp: {depth: [1, 2], "*/width": [20, 40]}}
budget: {trials: 3, iterations: 12}
validation: {every: 4, tasks: 20}
scheduler: {grace: 4, reduction_factor: 2}
finalists: {count: 1, seeds: 1, tasks: 20}
test: {tasks: 20}
baseline: {learner: maml, backbone: mlp}
resources: {concurrency: 1}
"""

LONGEST = (
    "test_killed",
    "test_cohorts",
    "test_supernet_study",
    "test_population",
    "test_study_runs",
    "test_cli",
    "test_workers",
    "test_dashboard",
    "test_library",
    "test_library_pages",
    "test_tutorial",
    "test_warm_start",
    "test_fidelity",
    "test_packing",
    "test_selection",
    "test_look",
    "test_resume",
    "test_pick",
    "test_postgresql",
    "test_doctor",
    "test_cli_errors",
    "test_cli_storages",
)
"""The files that take longest; begun last, one of them would keep one worker at work alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: in this order workers take them, and so end at the same time."""
    if gone := set(LONGEST) - {path.stem for path in Path(__file__).parent.rglob("test_*.py")}:
        raise pytest.UsageError(f"LONGEST in {__file__} names files that aren't there: {gone}")
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def autometa(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """``autometa("search", …)``: the command line without the seconds that a process takes."""
    from autometa import cli

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["autometa", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    monkeypatch.delenv("AUTOMETA_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    before = signal.getsignal(signal.SIGTERM)  # which a search takes for itself
    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def refused(autometa: Command, place: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command that must fail as all bad input does; gives the sentence."""
    monkeypatch.setenv("AUTOMETA_CACHE", str(place.parent / f"{place.name}-cache"))

    def run(*arguments: str) -> str:
        before = contents(place)
        ended = autometa(*arguments)
        assert ended.code == 2, ended
        assert re.fullmatch(r"error: [^\n]+\n", ended.err), ended.err
        assert "Traceback" not in ended.err + ended.out
        assert "object at 0x" not in ended.err
        assert contents(place) == before, "nothing may be left, nothing may be touched"
        return str(ended.err)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Every file and folder below, hidden ones included."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="session")
def small_yaml() -> str:
    """A study of seconds, on sinusoids."""
    return SMALL_YAML


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_yaml: str) -> Path:
    """The current folder, with configurations and images, sound and damaged."""
    monkeypatch.chdir(tmp_path)
    texts = {
        "small.yaml": small_yaml,
        "broken.yaml": "task: [1, 2\nseed: }",
        "list.yaml": "- maml\n- protonet\n",
        "empty.yaml": "",
        "file.txt": "no database, no folder, no zip\n" * 100,
        "mine/notes.txt": "keep",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    images = {f"class{c:02}/{i}.png": png(100 * c + i) for c in range(12) for i in range(6)}
    sound = zipped(tmp_path / "images.zip", images)
    zipped(tmp_path / "bad_image.zip", images | {"class03/2.png": b"no picture"})
    (tmp_path / "bad.zip").write_bytes(sound.read_bytes()[:3000])
    return tmp_path


def png(seed: int) -> bytes:
    """A small picture with random pixels of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    """A zip of these members."""
    with ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for a module's studies, with one CPU as they ask: each further one is a worker more.

    What a worker imports takes it seconds, and most studies of a test train for less.
    """
    yield from started_ray(num_cpus=1, num_gpus=0)


@pytest.fixture(scope="module")
def wide_ray_here() -> Iterator[None]:
    """The same with four logical CPUs and one logical GPU.

    Also for a study that is stopped and resumed in one test: the worker of what was stopped stays.
    """
    yield from started_ray(num_cpus=4, num_gpus=1)


def started_ray(**resources: int) -> Iterator[None]:
    """Ray, which keeps idle workers for the next search, even where there are as few CPUs."""
    import ray

    from autometa.search.cluster import QUIET

    os.environ.update(QUIET)
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(**resources, **quiet, _system_config={"num_workers_soft_limit": 4})
    yield
    ray.shutdown()
