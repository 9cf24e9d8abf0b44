"""What a benchmark ran on, in words, and tables as they are printed and kept."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from autometa.search.malloc import kept_memory


def machine(device: str = "cpu") -> str:
    """Processor or GPU, versions."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name()}, {versions}"
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{os.cpu_count()} cores ({model}), {versions}"


def keep_memory(module: str) -> None:
    """Start anew where glibc isn't told to keep its memory, which helps everyone."""
    kept = kept_memory()
    if any(os.environ.get(name) != value for name, value in kept.items()):
        arguments = [sys.executable, "-m", module, *sys.argv[1:]]
        os.execve(sys.executable, arguments, os.environ | kept)


class Table:
    """A Markdown table that is printed line by line, and can be kept in a file."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.lines: list[str] = []
        self.add(columns)
        self._print("|" + " --- |" * len(columns))

    def add(self, cells: Sequence[str]) -> None:
        """One more line."""
        self._print(f"| {' | '.join(cells)} |")

    def _print(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)

    def close(self, told: str, out: Path | None) -> None:
        """Say below what it is of, and write it to a file where one is given."""
        print(told)
        if out is not None:
            temporary = out.with_name(f".{out.name}.part")
            temporary.write_text("\n".join([*self.lines, "", f"{told}.", ""]), encoding="utf-8")
            temporary.replace(out)
