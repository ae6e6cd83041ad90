"""Servers and workers as processes over one PostgreSQL database and one object store, as tests start and end them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from finetune_assets.server.database.stores import Stores
from finetune_assets.server.shared import Shared
from finetune_assets_tests.forked import Forked
from finetune_assets_tests.object_store import Failing, object_store
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.postgres_server import new_schema
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import write_text_model

_PULL = """
import sys
from pathlib import Path
from finetune_assets.server.jobs.pulling import pull
from finetune_assets.server.shared import Shared
pull(Path(sys.argv[1]), Shared.from_environment(), jobs=1)
"""


class WorkerProcess:
    """A worker that trains one job at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with (home / "worker.log").open("ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            self.process = Forked(_PULL, [str(home)], environment, stderr=log.fileno(), stdout=log.fileno())

    def all(self) -> list[psutil.Process]:
        """The process, and those that work on jobs."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def send(self, number: signal.Signals) -> list[psutil.Process]:
        """Send a signal to all of them, as when a machine is lost or stands still; return whom it was sent to."""
        reached = self.all()
        for process in reached:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return reached

    def kill(self) -> None:
        """SIGKILL, and no trace of the processes."""
        self.send(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE_S)


class Cluster:
    """What all share, and the processes that were started; their homes differ, the models' folders do not."""

    def __init__(self, folder: Path, shared: Shared, failing: Failing, models: Mapping[str, str]) -> None:
        self.shared = shared
        self.failing = failing
        self._folder = folder
        self._models = {"tiny-text": str(write_text_model(folder / "tiny-text")), **models}
        self._servers: list[ServerProcess] = []
        self._workers: list[WorkerProcess] = []

    def home(self, name: str) -> Path:
        """A folder of a process's own, new or as it was left."""
        home = self._folder / name
        home.mkdir(exist_ok=True)
        (home / "models.yaml").write_text(yaml.safe_dump(self._models))
        return home

    def server(self, name: str, **options: Any) -> ServerProcess:
        """A server that leaves jobs to workers."""
        self._servers.append(ServerProcess(self.home(name), jobs=0, **options))
        return self._servers[-1]

    def worker(self, name: str) -> WorkerProcess:
        self._workers.append(WorkerProcess(self.home(name)))
        return self._workers[-1]

    def stores(self) -> Stores:
        """What all share, as one more process sees it."""
        return Stores(self.home("looking"), self.shared)

    def end(self) -> None:
        """End all processes that still run."""
        for worker in self._workers:
            worker.kill()
        for server in self._servers:
            server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def cluster(
    folder: Path, postgres: str, lease_seconds: float = 60.0, models: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Everything that is shared, empty, for processes to be started on; `models` by name, beside `tiny-text`."""
    failing: list[Failing] = []
    with pytest.MonkeyPatch.context() as patch, object_store(patch, failing) as url:
        shared = Shared(new_schema(postgres), f"{url}/server", lease_seconds)
        for name, value in shared.environment().items():
            patch.setenv(name, value)
        made = Cluster(folder, shared, failing[0], models or {})
        try:
            yield made
        finally:
            made.end()
