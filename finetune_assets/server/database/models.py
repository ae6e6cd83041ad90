"""Fine-tuned models and checkpoints: a row each, and the weights under `<home>/models/<job>/`.

A row is committed only after its weights are complete, and is gone before they are; what a row does not
speak of is unfinished or deleted and gets swept.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import bindparam, delete, or_, select

from finetune_assets.server.database.connection import Database, Rows, records
from finetune_assets.server.database.schema import TunedModel

KEPT_CHECKPOINTS = 3
"""The most recent checkpoints of a job stay usable, as many as with OpenAI; older ones give their disk space back."""

_USABLE = records(TunedModel).where(TunedModel.deleted.is_(False))
_BY_NAME = _USABLE.where(TunedModel.id == bindparam("name"))
_FINISHED = _USABLE.where(TunedModel.step.is_(None)).order_by(TunedModel.number)
_CHECKPOINTS = _USABLE.where(TunedModel.step.is_not(None), TunedModel.job_id == bindparam("job_id"))


class ModelStore:
    """Finds and deletes models; rows come into being with the events that announce them, in `JobLife`."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def output(self, job_id: str) -> Path:
        """Say where a job's trainer puts its models."""
        return self._folder / job_id

    def weights(self, model: TunedModel) -> Path:
        """Say where a model's weights are."""
        return self._folder / model.path

    def relative(self, weights: Path) -> str:
        """Turn a folder of weights into what rows call it."""
        return str(weights.relative_to(self._folder))

    def get(self, name: str) -> TunedModel | None:
        """Find the model or checkpoint of this name, or None."""
        found = self._database.read(_BY_NAME, name=name)
        return found[0] if found else None

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
        self.sweep(model.job_id)
        return True

    def retire_checkpoints(self, job_id: str) -> None:
        """Delete all but the last `KEPT_CHECKPOINTS` checkpoints of a job."""
        for old in self.checkpoints(job_id, after=None, limit=1000).items[KEPT_CHECKPOINTS:]:
            self.delete(old.id)

    def clear(self, job_id: str, after_step: int = 0) -> None:
        """Forget what an earlier attempt at the job has made after this step, so that the names can be given again."""
        later = or_(TunedModel.step.is_(None), TunedModel.step > after_step)
        with self._database.writing() as session:
            session.execute(delete(TunedModel).where(TunedModel.job_id == job_id, later))
        self.sweep(job_id)

    def sweep(self, job_id: str) -> None:
        """Remove from a job's folder what belongs to no model."""
        folder = self.output(job_id)
        query = select(TunedModel).where(TunedModel.job_id == job_id, TunedModel.deleted.is_(False))
        with self._database.reading() as session:
            kept = [self.weights(model) for model in session.scalars(query)]
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder not in kept:
            for entry in folder.iterdir():
                if not any(weights.is_relative_to(entry) for weights in kept):
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def remove_leftovers(self) -> None:
        """Sweep every job's folder. For a server that has just started."""
        for folder in self._folder.iterdir():
            self.sweep(folder.name)
