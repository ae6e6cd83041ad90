"""The server that benchmarks measure: a process of its own on a temporary folder."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from finetune_assets.server import keys


@dataclass(frozen=True)
class Server:
    """The server under test."""

    process: psutil.Process
    port: int
    key: str
    home: Path

    @property
    def base_url(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self.port}/v1"

    def add_key(self) -> str:
        """Make a key of another client."""
        return keys.add(self.home, f"key-{secrets.token_hex(4)}", ["read", "chat", "train"])

    def memory_mb(self) -> float:
        """Resident memory of the server itself, without its workers."""
        return self.process.memory_info().rss / 2**20


@contextmanager
def running_server(*options: str, home: Path | None = None) -> Iterator[Server]:
    """Start a server on a free port, with more options of `serve`, by default on a new home; it ends with the block."""
    with tempfile.TemporaryDirectory() as made:
        home = home or Path(made)
        command = [sys.executable, "-m", "finetune_assets.cli", "serve", "--port", "0", "--home", str(home), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            greeting = "".join(itertools.islice(process.stdout or (), 4))
            port = re.search(r"http://[^:]+:(\d+)", greeting)
            if port is None:
                raise SystemExit(f"the server did not start:\n{greeting}")
            yield Server(psutil.Process(process.pid), int(port[1]), _key(home), home)
        finally:
            process.terminate()
            process.wait()


def _key(home: Path) -> str:
    return os.environ.get("FINETUNE_ASSETS_API_KEY") or (home / "api_key").read_text().strip()
