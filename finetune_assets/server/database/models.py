"""Fine-tuned models and checkpoints: a row each, and the weights under `models/<job>/` of the storage.

A row is committed only after its weights are complete, and says that they are deleted before they are. What no row
speaks of is set aside. `job.json` beside the weights says what they are, should the rows ever be lost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, select, update

from finetune_assets.server import durable
from finetune_assets.server.database.connection import Database, Rows, records
from finetune_assets.server.database.jobs import CANCELLED, FAILED
from finetune_assets.server.database.schema import Job, TunedModel
from finetune_assets.server.storage import Storage

KEPT_CHECKPOINTS = 3
"""The most recent checkpoints of a job stay usable, as many as with OpenAI; older ones give their disk space back."""

CARD = "job.json"
CARD_FIELDS = (
    "id", "created_at", "model", "base", "tuned_model", "training_file", "validation_file", "suffix", "seed", "method",
    "hyperparameters", "meta",
)  # fmt: skip
"""What of a job stands in its card, from which a lost row is made again."""
_UNFINISHED = ".partial"
_USABLE = records(TunedModel).where(TunedModel.deleted.is_(False))
_BY_NAME = _USABLE.where(TunedModel.id == bindparam("name"))
_FINISHED = _USABLE.where(TunedModel.step.is_(None)).order_by(TunedModel.number)
_CHECKPOINTS = _USABLE.where(TunedModel.step.is_not(None), TunedModel.job_id == bindparam("job_id"))


class ModelStore:
    """Finds and deletes models; rows come into being with the events that announce them, in `JobLife`."""

    def __init__(self, database: Database, folder: Path, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def output(self, job_id: str) -> Path:
        """Say where a job's trainer puts its models."""
        return self._folder / job_id

    def describe(self, job: Job) -> None:
        """Write beside a job's weights to come what they are."""
        said = {field: getattr(job, field) for field in CARD_FIELDS}
        self.output(job.id).mkdir(exist_ok=True)
        durable.write(self.output(job.id) / CARD, json.dumps(said).encode())

    def weights(self, model: TunedModel) -> Path:
        """Say where a model's weights can be read.

        Raises:
            StoreUnreachableError: they could not be brought here.
        """
        return self._storage.fetch(_name(model.path))

    def publish(self, weights: Path, attempt: int = 0) -> str:
        """Keep a complete folder of weights in a job's output, and return what its row is to call it.

        `attempt` is a number that no other attempt at the job has (its claim), so that nothing is written over.
        """
        name = self._storage.publish(weights, _name(weights.parent.name, str(attempt), weights.name))
        return name.removeprefix("models/")

    def get(self, name: str) -> TunedModel | None:
        """Find the model or checkpoint of this name, or None."""
        found = self._database.read(_BY_NAME, name=name)
        return found[0] if found else None

    def calibrate(self, name: str, calibration: dict[str, Any] | None) -> bool:
        """Register a calibrator with a model, in place of an earlier one; False if there is no such model."""
        chosen = update(TunedModel).where(TunedModel.id == name, TunedModel.deleted.is_(False))
        with self._database.changing() as session:
            query = chosen.values(calibration=calibration).returning(TunedModel.number)
            return session.scalar(query) is not None

    def all(self) -> Sequence[TunedModel]:
        """List all models that are not checkpoints, the oldest first."""
        return self._database.read(_FINISHED)

    def checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Rows[TunedModel]:
        """List the usable checkpoints of a job, the newest first.

        Raises:
            UnknownCursorError: `after` was never the id of a checkpoint.
        """
        return self._database.page(_CHECKPOINTS, TunedModel.checkpoint_id, after=after, limit=limit, job_id=job_id)

    def delete(self, name: str) -> bool:
        """Delete a model or checkpoint; False if there is none of this name."""
        with self._database.writing() as session:
            model = session.scalar(select(TunedModel).where(TunedModel.id == name, TunedModel.deleted.is_(False)))
            if model is None:
                return False
            model.deleted = True
        self._storage.remove(_name(model.path))
        return True

    def retire_checkpoints(self, job_id: str) -> None:
        """Delete all but the last `KEPT_CHECKPOINTS` checkpoints of a job; with rewards, those of the highest stay."""
        newest_first = self.checkpoints(job_id, after=None, limit=1000).items
        best_first = sorted(newest_first, key=lambda row: -(row.metrics or {}).get("full_valid_mean_reward", 0.0))
        for old in best_first[KEPT_CHECKPOINTS:]:
            self.delete(old.id)

    def clear(self, job_id: str, paths: Sequence[str]) -> None:
        """Remove weights that no row speaks of any more, so that the names can be given again."""
        for path in paths:
            self._storage.remove(_name(path))
        self.sweep(job_id)

    def sweep(self, job_id: str) -> None:
        """Tidy the folder of a job that nobody works on: deleted weights go, those of no row are set aside."""
        folder = self.output(job_id)
        if not folder.is_dir():
            return
        if self._storage.shared:  # what counts is in the store
            shutil.rmtree(folder, ignore_errors=True)
            return
        query = select(TunedModel.path, TunedModel.deleted).where(TunedModel.job_id == job_id)
        with self._database.reading() as session:
            is_deleted = {row.path: row.deleted for row in session.execute(query)}
            unwanted = session.scalar(select(Job.status).where(Job.id == job_id)) in (FAILED, CANCELLED)
        if job_id in is_deleted:  # made by an earlier version, which put the weights there
            if is_deleted[job_id]:
                self._storage.remove(_name(job_id))
            return
        for entry in folder.iterdir():
            path = f"{job_id}/{entry.name}"
            if entry.name.endswith(_UNFINISHED) or is_deleted.get(path, False):
                self._storage.remove(_name(path))
            elif path not in is_deleted and entry.name != CARD:
                (self._storage.remove if unwanted else self._storage.set_aside)(_name(path))
        if {entry.name for entry in folder.iterdir()} <= {CARD}:
            self._storage.remove(_name(job_id))

    def remove_leftovers(self) -> None:
        """Sweep every job's folder. For a server that has just started."""
        for folder in self._folder.iterdir():
            if folder.is_dir():
                self.sweep(folder.name)


def _name(*parts: str) -> str:
    return "/".join(("models", *parts))
