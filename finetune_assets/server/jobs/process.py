"""How a process that works on jobs begins, and that it ends with the server; what it does in between is `worker`'s."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path

PARENT_POLL_SECONDS = 0.5
_NICENESS = 10


def begin(home: Path, taken: Mapping[str, int], log: Path, environment: Mapping[str, str]) -> None:
    """Do the next step of a job's life, or train several jobs together, in a process of its own.

    Args:
        home: The server's folder.
        taken: The jobs (ids), each with the number with which it was taken up.
        log: Where what is printed goes.
        environment: Variables of this process beside those of the server.
    """
    # A session of its own: Ctrl-C in the server's terminal must end the server, which then ends this process.
    os.setsid()
    with log.open("ab") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    os.environ.update(environment)
    os.nice(_NICENESS)
    threading.Thread(target=_end_with_server, daemon=True).start()
    # The server, which starts this, has no use for what a job needs.
    from finetune_assets.server.jobs import worker

    worker.run(home, taken)


def _end_with_server() -> None:
    """End this process when the server ends, or the process that it was forked from, which the server asks about it."""
    server, origin = multiprocessing.parent_process(), os.getppid()
    while not wait([server.sentinel] if server else [], PARENT_POLL_SECONDS) and os.getppid() == origin:
        pass
    print("stopped: the server is gone", flush=True)
    os._exit(1)
