"""A process with all that it starts: started apart from the terminal, asked whether it answers, and ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from finetune_assets.running import Identity

_GRACE_SECONDS = 15.0
# What a script starts in the background (`nohup finetune-assets ui &`) hands on to all that it starts that it hears no
# Ctrl-C, by which it is ended here.
_INTERRUPTIBLE = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
)


def spawn(command: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that writes into a log and outlives this one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _INTERRUPTIBLE, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            # Ctrl-C must reach us alone, so that the processes end in order and once.
            start_new_session=True,
        )


def stop(process: Identity) -> None:
    """End a process and all that it started, gently first."""
    if not process.alive:
        return
    family = _family(process.pid)
    with suppress(psutil.NoSuchProcess):
        family[0].send_signal(signal.SIGINT)
    for straggler in _alive_after(family, _GRACE_SECONDS):
        with suppress(psutil.NoSuchProcess):
            straggler.kill()
    _alive_after(family, _GRACE_SECONDS)


def answers(url: str) -> bool:
    """Say whether something serves the URL."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http URL
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Run to the end even if Ctrl-C is pressed again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _alive_after(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that are alive when the time is over; a child that nobody has waited for yet is not."""
    deadline = time.monotonic() + seconds
    while (alive := [process for process in family if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
