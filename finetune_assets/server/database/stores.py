"""The stores over one home, as the server and each worker process open them."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from finetune_assets.server import durable
from finetune_assets.server.bucket import Bucket
from finetune_assets.server.database import seal, sqlite_file
from finetune_assets.server.database.batches import BatchStore
from finetune_assets.server.database.completions import CompletionStore
from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.events import EventStore
from finetune_assets.server.database.files import FileStore
from finetune_assets.server.database.job_life import JobLife
from finetune_assets.server.database.jobs import FINAL, JobStore
from finetune_assets.server.database.models import ModelStore
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.uploads import UploadStore
from finetune_assets.server.database.usage import Usage
from finetune_assets.server.removal import Removal
from finetune_assets.server.shared import Shared
from finetune_assets.server.storage import Storage

SNAPSHOTS = "snapshots"
_KEPT_SNAPSHOTS = 3


class Stores:
    """Files, uploads, jobs, their events and models under `home`, which is made where it is missing.

    `shared` is what it has in common with other homes (None: nothing), `claim` that of a worker on its job.

    Raises:
        DatabaseTooNewError: a later version of this package has used this home.
        DatabaseAddressError: the database that is shared has no proper address.
        DatabaseUnreachableError: that database does not answer.
        StoreRefusedError: the store that is shared cannot be used, or is another database's.
        StoreUnreachableError: that store does not answer.
    """

    def __init__(self, home: Path, shared: Shared | None = None, claim: int | None = None) -> None:
        for folder in ("logs", "training"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        self.home = home
        self.shared = shared or Shared()
        self.removal = Removal(home)
        self.database = Database(self.shared.database or home / seal.DATABASE)
        self.storage = self._open_storage()
        self.files = FileStore(self.database, home / "files", self.storage)
        self.uploads = UploadStore(self.database, self.files, home / "uploads", self.storage)
        self.jobs = JobStore(self.database)
        self.job_life = JobLife(self.database, self.files, claim)
        self.events = EventStore(self.database)
        self.models = ModelStore(self.database, home / "models", self.storage)
        self.batches = BatchStore(self.database, self.files)
        self.completions = CompletionStore(self.database)
        self.usage = Usage(self.database)

    def of(self, claim: int) -> Stores:
        """The same stores, for the worker with this claim."""
        own = copy.copy(self)
        own.job_life = self.job_life.of(claim)
        return own

    def _open_storage(self) -> Storage:
        if self.shared.store is None:
            return Storage(self.home, self.removal)
        bucket = Bucket(self.shared.store, self.home, self.removal)
        bucket.belong_to(self.database.home)
        return bucket

    def log(self, job_id: str) -> Path:
        """Say where the processes that work on a job write their output."""
        return self.home / "logs" / f"{job_id}.log"

    def state(self, job_id: str) -> Path:
        """Say where a job's trainer keeps what it needs to go on after an interruption."""
        return self.home / "training" / job_id

    def saved(self, job_id: str, claim: int) -> None:
        """Record that training can go on from what it has saved; in a store, so that a worker of another home can.

        Raises:
            JobStateError: the job is not in training any more, or not by the worker with this claim.
        """
        if not self.storage.shared:
            self.job_life.saved(job_id)
            return
        newest = max(self.state(job_id).glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
        state = self.storage.publish(newest, f"training/{job_id}/{claim}/{newest.name}")
        before = self.job_life.saved(job_id, state)
        if before not in (None, state):
            self.storage.remove(before)

    def bring_state(self, job: Job) -> None:
        """Bring here what another home has kept, where it is newer than what is here."""
        if job.state is not None and self.storage.shared:
            target = self.state(job.id) / Path(job.state).name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(self.storage.fetch(job.state), target.with_name("coming"), dirs_exist_ok=True)
                durable.publish(target.with_name("coming"), target)

    def tidy(self, busy: Collection[str] = ()) -> None:
        """Remove what is no longer needed: expired files and uploads, and the training states of jobs that are over.

        `busy` are the jobs that a process works on.
        """
        self.files.remove_expired()
        self.uploads.remove_expired()
        self.completions.remove_expired()
        for state in (self.home / "training").iterdir():
            job = self.jobs.get(state.name)
            if job is None:
                self.removal.set_aside(state)
            elif state.name not in busy and job.status in FINAL:
                self.removal.remove(state)
        if self.storage.shared:
            for job_id in self.jobs.forget_states():
                self.storage.remove(f"training/{job_id}")
        self.storage.tidy()

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
        sqlite_file.copy(self.home / seal.DATABASE, scratch)
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
