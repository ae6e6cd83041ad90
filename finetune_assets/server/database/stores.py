"""The stores over one home, as the server and each worker process open them."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from finetune_assets.server import durable
from finetune_assets.server.database import seal
from finetune_assets.server.database.batches import BatchStore
from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.events import EventStore
from finetune_assets.server.database.files import FileStore
from finetune_assets.server.database.job_life import JobLife
from finetune_assets.server.database.jobs import FINAL, JobStore
from finetune_assets.server.database.models import ModelStore
from finetune_assets.server.database.sqlite_file import copy
from finetune_assets.server.database.uploads import UploadStore
from finetune_assets.server.database.usage import Usage
from finetune_assets.server.removal import Removal
from finetune_assets.server.shared import Shared

SNAPSHOTS = "snapshots"
_KEPT_SNAPSHOTS = 3


class Stores:
    """Files, uploads, jobs, their events and models under `home`, which is made where it is missing.

    `shared` is what it has in common with other homes; None: nothing.

    Raises:
        DatabaseTooNewError: a later version of this package has used this home.
        DatabaseAddressError: the database that is shared has no proper address.
        DatabaseUnreachableError: that database does not answer.
    """

    def __init__(self, home: Path, shared: Shared | None = None) -> None:
        for folder in ("logs", "training"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        self.home = home
        self.shared = shared or Shared()
        self.removal = Removal(home)
        self.database = Database(self.shared.database or home / seal.DATABASE)
        self.files = FileStore(self.database, home / "files", self.removal)
        self.uploads = UploadStore(self.database, self.files, home / "uploads", self.removal)
        self.jobs = JobStore(self.database)
        self.job_life = JobLife(self.database)
        self.events = EventStore(self.database)
        self.models = ModelStore(self.database, home / "models", self.removal)
        self.batches = BatchStore(self.database, self.files)
        self.usage = Usage(self.database)

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
            if job is None:
                self.removal.set_aside(state)
            elif state.name not in busy and job.status in FINAL:
                self.removal.remove(state)

    def sweep(self) -> None:
        """Remove what is recorded as deleted and is still there, and set aside what no record speaks of.

        Only for a server that has just started, or has just been copied.
        """
        self.files.remove_leftovers()
        self.uploads.remove_leftovers()

    def snapshot(self) -> None:
        """Keep a copy of a SQLite file as it is, in `<home>/snapshots/`, for `salvage`; the newest few stay."""
        if self.database.shared:
            return
        folder = self.home / SNAPSHOTS
        folder.mkdir(exist_ok=True)
        scratch = folder / "copying.partial"
        scratch.unlink(missing_ok=True)
        copy(self.home / seal.DATABASE, scratch)
        durable.publish(scratch, folder / time.strftime("%Y%m%dT%H%M%SZ.db", time.gmtime()))
        for old in sorted(folder.glob("*.db"))[:-_KEPT_SNAPSHOTS]:
            old.unlink()

    def write_seal(self, *, closed: bool = False) -> None:
        """Note in the folder how far its own database is; `closed`, that nothing comes after this."""
        if not self.database.shared:
            seal.Seal(self.database.home, self.database.reached(), closed=closed).write(self.home)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def finish(self) -> None:
        """Bring everything into SQLite's one file, and close it. For a server that ends in good order."""
        if not self.database.shared:
            self.database.checkpoint()
        self.write_seal(closed=True)
        self.close()
