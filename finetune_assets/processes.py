"""The two processes beside a demo or UI, the fine-tuning server and Dagster: whoever starts them ends them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import psutil

from finetune_assets.errors import FinetuneAssetsError

SERVER_PORT = 8321
VAR = Path("var")
_GRACE_SECONDS = 15.0


class StartError(FinetuneAssetsError, RuntimeError):
    """A process ended, or stayed silent, before it was ready. The message ends with its log."""


@contextmanager
def fine_tuning_server() -> Iterator[str]:
    """The local server's base URL; it is started for the duration unless one answers already."""
    url = f"http://127.0.0.1:{SERVER_PORT}"
    if answers(f"{url}/healthz"):
        yield f"{url}/v1"
        return
    command = [sys.executable, "-m", "finetune_assets.cli", "serve", "--port", str(SERVER_PORT)]
    with _running(command, VAR / "logs" / "server.log") as process:
        _await_answer(process, f"{url}/healthz", VAR / "logs" / "server.log", seconds=120)
        yield f"{url}/v1"


@contextmanager
def dagster(port: int) -> Iterator[str]:
    """The URL of a Dagster webserver with its daemon, on DAGSTER_HOME (default `var/dagster`)."""
    url, log = f"http://127.0.0.1:{port}", VAR / "logs" / "dagster.log"
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", "workspace.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with _running(command, log, DAGSTER_HOME=str(dagster_home())) as process:
        _await_answer(process, f"{url}/server_info", log, seconds=180)
        yield url


def dagster_home() -> Path:
    """DAGSTER_HOME, made with our `dagster.yaml` if it is not there."""
    home = Path(os.environ.get("DAGSTER_HOME") or VAR / "dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        packaged = resources.files("finetune_assets.pipeline").joinpath("dagster.yaml")
        with resources.as_file(packaged) as template:
            shutil.copyfile(template, home / "dagster.yaml")
    return home


def free_port(preferred: int) -> int:
    """`preferred` if nothing listens there, else any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            # Ctrl-C must reach us alone, so that the processes end in order and once.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started, gently first; runs to its end even if Ctrl-C is pressed again."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        family = _family(process.pid)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _gone, alive = psutil.wait_procs(family, timeout=_GRACE_SECONDS)
        for straggler in alive:
            straggler.kill()
        psutil.wait_procs(alive, timeout=_GRACE_SECONDS)
        process.wait()
    finally:
        signal.signal(signal.SIGINT, previous)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _await_answer(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            how = "ended" if process.poll() is not None else f"did not answer within {seconds:.0f} s"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise StartError(f"{' '.join(process.args[1:4])} {how}. End of {log}:\n{tail}")  # type: ignore[index]
        time.sleep(0.3)


def answers(url: str) -> bool:
    """Say whether something serves the URL."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http URL
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
