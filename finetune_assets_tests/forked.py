"""Programs forked from a process that has loaded what a fine-tuning server and its jobs need.

To load it takes eight seconds of a core for a server that trains, and the tests start some forty. That programs find
what they import is tested where commands are run as users run them.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import multiprocessing.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

_LOADED = ("finetune_assets.server.app", "finetune_assets.server.jobs.loaded")
_LOAD = "from finetune_assets_tests.forked import forked_script; exec(forked_script())"
_FORK_SERVER = "from multiprocessing.forkserver import"
"""Begins what a server runs, in a process of its own, to have processes of jobs forked from that."""
_MESSAGE_BYTES = 1 << 20


class Forked:
    """A program that runs, with what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        script: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stderr: int,
        stdout: int | None = None,
    ) -> None:
        """Run it.

        Args:
            script: Its source.
            arguments: What it finds in `sys.argv` after the first.
            environment: All its variables; libraries that are loaded already have read those of the tests.
            stderr: File descriptor that it writes to.
            stdout: Another; None has it write to a pipe, of which `stdout` is the end that is read.
        """
        self._keeper, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, written = os.pipe()
        asked = {"script": script, "arguments": [*arguments], "environment": {**environment}}
        with theirs:
            _send(_loaded(), asked, [theirs.fileno(), written if stdout is None else stdout, stderr])
        os.close(written)
        self.stdout = os.fdopen(output, encoding="utf-8")
        self.pid = int(self._keeper.recv(_MESSAGE_BYTES))
        self.returncode: int | None = None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        if self.returncode is None:
            self._keeper.settimeout(timeout)
            try:
                self.returncode = int(self._keeper.recv(_MESSAGE_BYTES))
            except (BlockingIOError, TimeoutError) as error:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from error
        return self.returncode


@cache
def _loaded() -> socket.socket:
    """Start the process that has loaded all; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.Popen(
            [sys.executable, "-c", _LOAD, str(theirs.fileno())], env=environment, pass_fds=[theirs.fileno()]
        )
    return ours


def forked_script() -> str:
    """Load all; return in each fork, with the script that it is to run and all around it as it should be."""
    for name in _LOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that keep the programs
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        while received := _receive(asking):
            asked, files = received
            if os.fork() == 0:
                break
            for file in files:
                os.close(file)
        else:
            os._exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.nice = _not_nice
    return _kept(asked, *files)


def _kept(asked: dict[str, Any], keeper: int, stdout: int, stderr: int) -> str:
    """Fork the program; return in it, and stay behind as the one that waits for it and says how it ended."""
    if pid := os.fork():
        for file in (stdout, stderr):
            os.close(file)
        with socket.socket(fileno=keeper) as asked_by:
            asked_by.send(b"%d" % pid)
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(BrokenPipeError):
                asked_by.send(b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(keeper)
    for file, number in ((os.open(os.devnull, os.O_RDONLY), 0), (stdout, 1), (stderr, 2)):
        os.dup2(file, number)
        os.close(file)
    sys.argv[1:] = asked["arguments"]
    _set(asked["environment"])
    return _fork_server() or asked["script"]


def _fork_server() -> str:
    """Fork what a server would start to have jobs forked from; return in that what it is to run, and "" at once here.

    It waits until it is needed, and ends with the server.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if pid := os.fork():
        theirs.close()
        start = multiprocessing.util.spawnv_passfds

        def forked(path: bytes, args: Sequence[Any], passed: Sequence[int]) -> int:
            if not args[-1].startswith(_FORK_SERVER) or ours.fileno() < 0:
                return start(path, args, passed)
            with ours:
                _send(ours, {"script": args[-1], "numbers": [*passed], "environment": {**os.environ}}, passed)
            return pid

        multiprocessing.util.spawnv_passfds = forked
        return ""
    ours.close()
    with theirs:
        received = _receive(theirs)
    if received is None:
        os._exit(0)
    asked, files = received
    # Above all numbers that it was told, none of which may be overwritten before it is moved itself.
    above = [fcntl.fcntl(file, fcntl.F_DUPFD, max(asked["numbers"]) + 1) for file in files]
    for file, number in zip(above, asked["numbers"], strict=True):
        os.dup2(file, number)
    _set(asked["environment"])
    return asked["script"]


def _not_nice(_by: int) -> int:
    """Leave jobs the priority of tests: beside a machine that is busy with others' work, a nice one takes minutes."""
    return 0


def _set(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _send(to: socket.socket, message: Mapping[str, Any], files: Sequence[int]) -> None:
    socket.send_fds(to, [json.dumps(message).encode()], files)


def _receive(asking: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next message and the files that came with it; None when the other side has ended."""
    message, files, _, _ = socket.recv_fds(asking, _MESSAGE_BYTES, 8)
    return (json.loads(message), files) if message else None
