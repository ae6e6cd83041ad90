"""The stores over one home, as the server and each worker process open them."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from finetune_assets.server.database.batches import BatchStore
from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.events import EventStore
from finetune_assets.server.database.files import FileStore
from finetune_assets.server.database.job_life import JobLife
from finetune_assets.server.database.jobs import FINAL, JobStore
from finetune_assets.server.database.models import ModelStore
from finetune_assets.server.database.uploads import UploadStore


class Stores:
    """Files, uploads, jobs, their events and models under `home`, which is made where it is missing.

    Raises:
        DatabaseTooNewError: a later version of this package has used this home.
    """

    def __init__(self, home: Path) -> None:
        for folder in ("logs", "training"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        self.home = home
        self._database = Database(home / "server.db")
        self.files = FileStore(self._database, home / "files")
        self.uploads = UploadStore(self._database, self.files, home / "uploads")
        self.jobs = JobStore(self._database)
        self.job_life = JobLife(self._database)
        self.events = EventStore(self._database)
        self.models = ModelStore(self._database, home / "models")
        self.batches = BatchStore(self._database, self.files)

    def log(self, job_id: str) -> Path:
        """Say where the processes that work on a job write their output."""
        return self.home / "logs" / f"{job_id}.log"

    def state(self, job_id: str) -> Path:
        """Say where a job's trainer keeps what it needs to go on after an interruption."""
        return self.home / "training" / job_id

    def tidy(self, busy: Collection[str] = ()) -> None:
        """Remove what is no longer needed: expired files and uploads, and the training states of jobs that are over.

        `busy` are the jobs that a process works on.
        """
        self.files.remove_expired()
        self.uploads.remove_expired()
        for state in (self.home / "training").iterdir():
            job = self.jobs.get(state.name)
            if state.name not in busy and (job is None or job.status in FINAL):
                shutil.rmtree(state)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
