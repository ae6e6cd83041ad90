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
from finetune_assets.server.database.jobs import FINAL, PAUSED, JobStore
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
        if only is None:
            ended.wait()
        else:
            sole = SoleJob(services.jobs, only)
            while not (ended.wait(LOOK_SECONDS) or sole.needs_nobody(at_work=services.supervisor.works())):
                pass
        services.stop()


class SoleJob:
    """The one job that a worker was started for."""

    def __init__(self, jobs: JobStore, job_id: str) -> None:
        self._jobs, self._id = jobs, job_id
        self._held_until: float | None = None
        """Until when somebody else had it when that was first seen."""

    def needs_nobody(self, *, at_work: bool) -> bool:
        """Whether a worker, which is `at_work` on it or not, may end.

        The job has ended, was deleted, or waits for a person; or another worker has it, and is alive, for it has
        prolonged its time. What a dead one has comes back to the queue.
        """
        with suppress(ShortageError):
            job = self._jobs.get(self._id)
            if job is None or job.status in (*FINAL, PAUSED):
                return True
            if at_work or job.lease_until is None:
                self._held_until = None
                return False
            self._held_until = self._held_until or job.lease_until
            return job.lease_until > self._held_until
        return False
