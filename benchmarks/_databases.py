"""The databases that benchmarks compare: a SQLite file, and a PostgreSQL server that writes before it answers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def sqlite() -> Iterator[str]:
    """Make a place for a SQLite file; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/feedback.sqlite"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL server; its URL."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "finetune_assets_tests.postgres_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield next(iter(process.stdout or ())).strip()
        finally:
            process.terminate()
