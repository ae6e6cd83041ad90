"""What the endpoints work with: the stores, the job queue and the engine that generates, put together once."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from finetune_assets.server import base_models
from finetune_assets.server.database import seal
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.devices import cores, threads_per_process
from finetune_assets.server.jobs.supervisor import Supervisor
from finetune_assets.server.shared import NothingSharedError, Shared
from finetune_assets.server.shortage import telling_of_shortages

if TYPE_CHECKING:
    from finetune_assets.server.generation.engine import Engine
    from finetune_assets.server.generation.handover import Handover


logger = logging.getLogger(__name__)
_MANY_TOKENS = 8


class Services(Stores):
    """The stores of a home, with the queue and the engine of the one server that runs on it.

    Raises:
        NothingSharedError: the database is shared, and no store is.
        SealBrokenError: the database and the folders do not belong together.
    """

    def __init__(
        self,
        home: Path,
        *,
        jobs: int | None = None,
        shared: Shared | None = None,
        only: str | None = None,
        handover: Handover | None = None,
    ) -> None:
        if shared is None or shared.database is None:
            seal.check(home)
        elif shared.store is None:
            raise NothingSharedError(
                "servers that share a database must share a store for files and models too: name it with --store "
                "(or FINETUNE_ASSETS_STORE), such as s3://bucket/prefix, or file:///a/folder on one machine"
            )
        super().__init__(home, shared)
        base_models.ensure_config(home)
        self.supervisor = Supervisor(self, jobs, only)
        self.handover = handover
        """To the vLLM processes of this server, where it has any."""
        self._threads = threads_per_process(jobs)
        self._engine: Engine | None = None
        self._engine_lock = threading.Lock()

    def start(self) -> None:
        """Tidy up after a server that was killed, and start working on the queue."""
        self.write_seal()
        self.files.remove_incoming()
        if not self.storage.shared:  # what another server brings in is in no record yet
            self.sweep()
        self.models.remove_leftovers()
        self.tidy()
        if not self.database.shared:
            self.job_life.recover()
        self.supervisor.start()
        if self.handover is not None:
            self.handover.start()

    def stop(self) -> None:
        """End the engine and the worker processes, and close the database."""
        if self.handover is not None:
            self.handover.stop()
        if self._engine is not None:
            self._engine.close()
        self.supervisor.stop()
        for what, keep in {"snapshot of the database": self.snapshot, "seal of a good end": self.finish}.items():
            try:
                with telling_of_shortages():
                    keep()
            except OSError as error:  # a shortage: the database itself is whole
                logger.warning("No %s was kept: %s", what, error)
        self.close()

    def engine(self) -> Engine:
        """Start the engine at its first use: it imports torch, which takes seconds and much memory."""
        with self._engine_lock:
            if self._engine is None:
                from finetune_assets.server.generation.engine import Engine

                self._engine = Engine(self._engine_threads, other=self.handover)
            return self._engine

    def _engine_threads(self, tokens: int) -> int:
        # Measured on 2 cores: reading a prompt on both is 1.7 times as fast. A step over a few tokens is as slow as
        # its weights come from memory, and threads that must be woken for each of its small products take longer.
        return cores() if tokens >= _MANY_TOKENS and not self.supervisor.busy() else self._threads


async def _of_app(request: Request) -> Services:  # not async, it would be called in a thread
    return request.app.state.services


Served = Annotated[Services, Depends(_of_app)]
"""Parameter of an endpoint that works with the services of its app."""
