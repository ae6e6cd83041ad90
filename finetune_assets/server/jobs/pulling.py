"""A process that works on the jobs of servers elsewhere: a supervisor over a home of its own, without the API."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

from finetune_assets.server import base_models
from finetune_assets.server.devices import threads_per_process, wanted_precision
from finetune_assets.server.home import locked
from finetune_assets.server.services import Services
from finetune_assets.server.shared import NothingSharedError, Shared


def pull(home: Path, shared: Shared, jobs: int | None = None) -> None:
    """Work on jobs until SIGTERM or SIGINT; what is in training then is saved, and goes back to the queue.

    Raises:
        NothingSharedError: a worker needs both a database and a store that servers use too.
        HomeInUseError: another process runs on this folder.
        DatabaseUnreachableError, StoreUnreachableError: nobody answers there.
        PrecisionError: `FINETUNE_ASSETS_DTYPE` names no precision.
    """
    if shared.database is None or shared.store is None:
        raise NothingSharedError(
            "a worker takes jobs of servers that were started with --database and --store; name the same to it "
            "(or set FINETUNE_ASSETS_DATABASE and FINETUNE_ASSETS_STORE). A server without them trains its jobs itself"
        )
    wanted_precision()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_per_process(jobs)))
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)
    home, ended = home.resolve(), threading.Event()
    with locked(home):
        services = Services(home, jobs=jobs, shared=shared)

        def end(_signal: int, _frame: object) -> None:
            if ended.is_set():
                services.supervisor.hurry()
            ended.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        services.start()
        print(f"Worker in {home}, with the models {', '.join(base_models.names(home))}. Ctrl-C stops it.", flush=True)
        ended.wait()
        services.stop()
