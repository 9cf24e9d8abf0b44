"""``autometa doctor``: what it says of sound and of broken machines."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.requirements import Requirement
from rich.console import Console

from autometa.doctor import machine, software, surroundings
from autometa.doctor.finding import OK, PROBLEM, WARNING, Finding
from autometa.doctor.table import findings_table, verdict

PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Finding]]:
    """The whole command in a process of its own: check → finding."""

    def run(*more: str, files: int | None = None, **environment: str) -> dict[str, Finding]:
        ended = subprocess.run(
            [sys.executable, "-m", "autometa.cli", "doctor", "--json", *more],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
            if files
            else None,
        )
        assert not ended.stderr.strip()
        findings = {each["check"]: Finding(**each) for each in json.loads(ended.stdout)}
        assert ended.returncode == any(each.state == PROBLEM for each in findings.values())
        return findings

    for name in (*PROXIES, "RAY_AUTH_MODE", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return run


def test_a_machine_that_runs_these_tests_is_sound(found: Callable[..., Any]) -> None:
    here = found("--ray")
    assert here["Ray starts"].state == OK
    for name in ("torch", "ray", "optuna", "nni"):
        assert here[name] == Finding(name, OK, version(name))
    assert here["Python"].found.startswith(sys.version.split()[0])
    assert (
        here["memory"]
        .found.split(" of ")[1]
        .startswith(f"{psutil.virtual_memory().total / 1e9:,.1f} GB")
    )
    assert "its dashboard at http://127.0.0.1:" in here["Ray starts"].found
    assert all(bool(each.advice) == (each.state != OK) for each in here.values())


def test_what_is_wrong_with_a_machine_is_found(tmp_path: Path, found: Callable[..., Any]) -> None:
    file = tmp_path / "file"
    file.touch()
    ill = found(
        files=600,
        AUTOMETA_CACHE=str(file),
        RAY_TMPDIR=str(file / "ray"),
        RAY_AUTH_MODE="disabled",
        http_proxy="http://proxy:3128",
        PYTHONIOENCODING="ascii",
    )
    problems = {name for name, each in ill.items() if each.state == PROBLEM}
    assert problems >= {"data cache", "disk of Ray", "open files", "terminal"}
    assert "600" in ill["open files"].found
    assert "ulimit -n" in ill["open files"].advice
    assert ill["Ray's token"].state == WARNING
    assert ill["Ray's token"].advice == "unset RAY_AUTH_MODE"
    assert ill["proxy"].advice == "export no_proxy=127.0.0.1,localhost"


@pytest.mark.parametrize("answer", ["127.0.0.1,localhost", "*"])
def test_a_proxy_that_leaves_this_machine_alone(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", answer)
    assert surroundings.proxy().state == OK


def test_a_package_that_is_missing_broken_or_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("raise OSError('libcudart.so.99: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    missing = software.package(Requirement("nonesuch>=1"), "nonesuch")
    assert missing.state == PROBLEM
    assert missing.advice == "pip install --upgrade 'nonesuch>=1'"
    broken = software.package(Requirement("numpy>=1"), "broken_package")
    assert broken.found == "can't be imported: OSError: libcudart.so.99: no such file"
    old = software.package(Requirement("numpy>=999"), "numpy")
    assert (old.state, old.found) == (PROBLEM, f"{version('numpy')}, but must be >=999")


@pytest.mark.parametrize(
    ("driver", "built_for", "visible", "state", "advice"),
    [
        (None, None, None, OK, ""),
        (None, "12.8", None, OK, ""),
        ("570.1", None, None, WARNING, "install torch with CUDA"),
        ("570.1", "12.8", "", WARNING, "unset CUDA_VISIBLE_DEVICES"),
        ("390.1", "12.8", None, PROBLEM, "update the driver"),
    ],
)
def test_why_torch_sees_no_gpu(
    driver: str | None, built_for: str | None, visible: str | None, state: str, advice: str
) -> None:
    finding = software.no_cuda(driver, built_for, visible)
    assert finding.state == state
    assert finding.advice.startswith(advice)


GB = 10**9
JUDGED = [
    (machine.judge_disk("disk of studies", Path("trials"), 9 * GB, 97.0), OK),
    (machine.judge_disk("disk of Ray", Path("/tmp"), 9 * GB, 97.0), PROBLEM),
    (machine.judge_disk("disk of Ray", Path("/tmp"), 3 * GB, 50.0), WARNING),
    (machine.judge_disk("disk of studies", Path("trials"), GB // 2, 50.0), PROBLEM),
    (machine.judge_shared_memory(60 * 10**6, 64 * 2**20), WARNING),
    (machine.judge_shared_memory(GB // 2, 8 * GB), WARNING),
    (machine.judge_shared_memory(7 * GB, 8 * GB), OK),
    (machine.judge_memory(GB, 8 * GB, 4), PROBLEM),
    (machine.judge_memory(6 * GB, 8 * GB, 4), OK),
    (machine.judge_files(1024, 65536), OK),
    (machine.judge_files(1024, resource.RLIM_INFINITY), OK),
    (machine.judge_files(1024, 4096), WARNING),
    (machine.judge_files(256, 512), PROBLEM),
]


@pytest.mark.parametrize(("finding", "state"), JUDGED)
def test_what_is_enough(finding: Finding, state: str) -> None:
    assert finding.state == state
    assert bool(finding.advice) == (state != OK)


def test_the_memory_of_a_container_is_what_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("1500000000\n")
    assert machine.container_limit(tmp_path) == (2_500_000_000, 4_000_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.container_limit(tmp_path) is None
    assert machine.container_limit(tmp_path / "nowhere") is None


def test_the_table_says_what_to_do_and_how_many_problems_there_are() -> None:
    findings = [
        Finding("one", OK, "[bold]fine[/bold]"),
        Finding("two", WARNING, "so so", "mend it"),
        Finding("three", PROBLEM, "bad", "replace it"),
        Finding("four", PROBLEM, "worse", "throw it away"),
    ]
    out = io.StringIO()
    Console(file=out, width=60).print(findings_table(findings))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert "one     OK        [bold]fine[/bold]" in lines
    assert lines[lines.index("three   problem   bad") + 1] == "→ replace it"
    assert verdict(findings) == "2 problems, 1 warning"
    assert verdict(findings[:1]) == "all is well"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_terminal(terminal: bool) -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as out:
        console = Console(file=out, width=50, force_terminal=terminal, no_color=True)
        finding = surroundings.terminal(console)
    assert finding.state == (WARNING if terminal else OK)
    assert ("50 columns, without colours" in finding.found) == terminal
