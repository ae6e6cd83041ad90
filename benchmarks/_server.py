"""The server that benchmarks measure: a process of its own on a temporary folder."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Server:
    """The server under test."""

    process: psutil.Process
    port: int
    key: str

    @property
    def base_url(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self.port}/v1"

    def memory_mb(self) -> float:
        """Resident memory of the server itself, without its workers."""
        return self.process.memory_info().rss / 2**20


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server on a free port; it ends with the block."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "finetune_assets.cli", "serve", "--port", "0", "--home", home]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            greeting = "".join(itertools.islice(process.stdout or (), 4))
            port = re.search(r"http://[^:]+:(\d+)", greeting)
            if port is None:
                raise SystemExit(f"the server did not start:\n{greeting}")
            yield Server(psutil.Process(process.pid), int(port[1]), (Path(home) / "api_key").read_text().strip())
        finally:
            process.terminate()
            process.wait()
