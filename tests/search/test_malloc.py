"""What glibc is told, and that it does as it is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from autometa.search import malloc
from autometa.search.malloc import ARENAS, KEPT, keep_memory, kept_memory

SMALL, LARGE = (1, 28, 28), (3, 84, 84)
# Blocks over 64 MB, and many of some MB, by a thread beside the first: page faults of the second
# half of the rounds, when all that is needed was there before.
ROUNDS = """
import resource, sys, threading, torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    torch.set_num_threads(1)
    for _ in range(6):
        kept = [torch.ones(int(sys.argv[1])) for _ in range(4)]
        del kept
        found.append(faults())
found = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(found[-1] - found[2])
"""


@pytest.mark.parametrize(
    ("threads", "shape", "several"),
    [(1, SMALL, False), (2, SMALL, True), (2, LARGE, False), (2, None, False)],
)
def test_threads_on_small_inputs_have_arenas_of_their_own(
    threads: float, shape: tuple[int, ...] | None, several: bool
) -> None:
    assert (int(kept_memory(threads, shape)[ARENAS]) > threads) == several


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
@pytest.mark.parametrize(("threads", "shape", "numbers"), [(2, SMALL, 2**22), (1, LARGE, 2**25)])
def test_a_thread_keeps_what_it_had(threads: int, shape: tuple[int, ...], numbers: int) -> None:
    def faults(told: dict[str, str]) -> int:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        command = [sys.executable, "-c", ROUNDS, str(numbers)]
        return int(subprocess.check_output(command, env=plain | told))

    assert faults(kept_memory(threads, shape)) < faults({}) / 10


def test_what_the_user_set_stays_and_what_an_earlier_search_set_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(malloc, "_told", {})
    for name in (*KEPT, ARENAS):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "7")
    keep_memory(1, SMALL)
    assert os.environ[ARENAS] == "1"
    keep_memory(2, SMALL)
    assert os.environ[ARENAS] == kept_memory(2, SMALL)[ARENAS]
    assert os.environ["MALLOC_TOP_PAD_"] == "7"
    monkeypatch.setenv(ARENAS, "3")
    keep_memory(1, LARGE)
    assert os.environ[ARENAS] == "3"
