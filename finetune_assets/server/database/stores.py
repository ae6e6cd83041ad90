"""The stores over one home, as the server and each worker process open them."""

from __future__ import annotations

from pathlib import Path

from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.events import EventStore
from finetune_assets.server.database.files import FileStore
from finetune_assets.server.database.job_life import JobLife
from finetune_assets.server.database.jobs import JobStore
from finetune_assets.server.database.models import ModelStore


class Stores:
    """Files, jobs, their events and models under `home`, which is made where it is missing.

    Raises:
        DatabaseTooNewError: a later version of this package has used this home.
    """

    def __init__(self, home: Path) -> None:
        (home / "logs").mkdir(parents=True, exist_ok=True)
        self.home = home
        self._database = Database(home / "server.db")
        self.files = FileStore(self._database, home / "files")
        self.jobs = JobStore(self._database)
        self.job_life = JobLife(self._database)
        self.events = EventStore(self._database)
        self.models = ModelStore(self._database, home / "models")

    def log(self, job_id: str) -> Path:
        """Say where the processes that work on a job write their output."""
        return self.home / "logs" / f"{job_id}.log"

    def close(self) -> None:
        """Close the database."""
        self._database.close()
