"""A process that works on jobs of servers elsewhere, or on one: a supervisor over its own home, without the API."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import base_models
from finetune_assets.server.database.jobs import FINAL, PAUSED
from finetune_assets.server.devices import threads_per_process, wanted_precision
from finetune_assets.server.home import locked
from finetune_assets.server.services import Services
from finetune_assets.server.shared import NothingSharedError, Shared
from finetune_assets.server.shortage import ShortageError

LOOK_SECONDS = 1.0
"""How often a worker of one job looks whether that is over."""


class UnknownJobError(FinetuneAssetsError, LookupError):
    """A worker is to work on a job that is not there."""


def pull(home: Path, shared: Shared, jobs: int | None = None, only: str | None = None) -> None:
    """Work on jobs until SIGTERM or SIGINT; what is in training then is saved, and goes back to the queue.

    `only` is the one job (id) to work on, after which this ends.

    Raises:
        UnknownJobError: there is no such job.
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
        services = Services(home, jobs=jobs, shared=shared, only=only)
        if only is not None and services.jobs.get(only) is None:
            services.close()
            raise UnknownJobError(f"there is no job {only} in this database: a worker's --job is the id of one")

        def end(_signal: int, _frame: object) -> None:
            if ended.is_set():
                services.supervisor.hurry()
            ended.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        services.start()
        print(f"Worker in {home}, with the models {', '.join(base_models.names(home))}. Ctrl-C stops it.", flush=True)
        while not (ended.wait() if only is None else ended.wait(LOOK_SECONDS) or _is_over(services, only)):
            pass
        services.stop()


def _is_over(services: Services, job_id: str) -> bool:
    """Whether a job needs no worker any more: it has ended, was deleted, or waits for a person."""
    with suppress(ShortageError):
        job = services.jobs.get(job_id)
        return job is None or job.status in (*FINAL, PAUSED)
    return False
