"""The marks of tests that start Ray: its warnings, which elsewhere would be errors."""

from __future__ import annotations

import pytest

RAY_WARNINGS = [
    # Ray and Optuna leave sockets and SQLite connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:ray"),
]
