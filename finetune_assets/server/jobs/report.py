"""What a training worker publishes of its job: events, checkpoints, the result file, and Weights & Biases runs."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from finetune_assets.server.database.job_life import JobStateError
from finetune_assets.server.database.jobs import PAUSED, QUEUED
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs.weights_and_biases import WandbRuns
from finetune_assets.server.training.loop import Progress, Watcher, Wish
from finetune_assets.server.training.threads import Threads

RESULT_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""The columns of a result file, and the published metrics that fill them."""


class JobReport(Watcher):
    """Publishes a job's training, and passes on to it that the job was paused or the server stops.

    `together` is how many jobs this process trains.
    """

    def __init__(self, stores: Stores, job: Job, together: int = 1) -> None:
        self._stores = stores
        self._claim = job.claim
        self._job_id = job.id
        self._settings: dict[str, int | float] = {}
        self._wandb = WandbRuns(job, stores.home / "wandb", self.note)
        self._threads = Threads(stores, together)
        self._wish: Wish = "go on"
        self._first: tuple[int, float] | None = None
        """The first step of this process and when it ended; loading and looking at images come only once."""

    @property
    def stepping(self) -> bool:
        """Whether training has begun, so that there is something to save."""
        return self._first is not None

    def stop(self) -> None:
        """Let training save its state and stop after this step."""
        self._wish = "stop"

    def wish(self) -> Wish:
        """What training is to do after a step."""
        return self._wish

    def note(self, message: str, level: str = "info") -> None:
        """Add an event."""
        self._stores.job_life.note(self._job_id, message, level)

    def ready(self, gradients: Callable[[], list[Tensor]]) -> None:
        """Find out on how many threads this training may compute."""
        self._threads.choose(gradients)

    def begun(self, step: int, settings: dict[str, int | float]) -> None:
        """Forget what an earlier process has published of later steps."""
        self._settings = settings
        self._stores.models.clear(self._job_id, self._stores.job_life.went_back(self._job_id, step))
        told = ", ".join(f"{name}={value}" for name, value in settings.items())
        self.note(f"Hyperparameters: {told}")
        self._wandb.start(settings)

    def stepped(self, progress: Progress) -> None:
        """Publish one training step.

        Raises:
            JobStateError: the job was cancelled.
        """
        metrics = published(progress)
        try:
            self._stores.job_life.stepped(self._job_id, metrics, self._settings, self._finish(progress))
        except JobStateError:
            job = self._stores.jobs.get(self._job_id)
            if job is None or job.status not in (PAUSED, QUEUED):
                raise
            self._stores.job_life.stepped_last(self._job_id, metrics)
            self._wish = "snapshot and stop"
        if progress.checkpoint is not None:
            self._publish(metrics, progress.checkpoint)
        self._wandb.log(metrics)
        self._threads.adjust()

    def saved(self) -> None:
        """Count interruptions anew."""
        with suppress(JobStateError):  # it was paused or cancelled, which the next step will find out
            self._stores.saved(self._job_id, self._claim)

    def stopped(self, progress: Progress, snapshot: Path | None) -> None:
        """Publish the checkpoint of a paused job, unless the step's own is out already."""
        if snapshot is not None and progress.checkpoint is None:
            self._publish(published(progress), snapshot)
        self.note(f"Training is saved and stops after step {progress.step} of {progress.total_steps}")

    def close(self) -> None:
        """Complete what other services are told."""
        self._wandb.finish()

    def _publish(self, metrics: dict[str, Any], checkpoint: Path) -> None:
        self._stores.job_life.checkpointed(self._job_id, metrics, self._stores.models.publish(checkpoint, self._claim))
        self._stores.models.retire_checkpoints(self._job_id)

    def _finish(self, progress: Progress) -> int | None:
        """Estimate the end in Unix seconds; None at this process's first step, which tells nothing."""
        now = time.monotonic()
        if self._first is None:
            self._first = (progress.step, now)
            return None
        step, ended = self._first
        seconds_per_step = (now - ended) / (progress.step - step)
        return int(time.time() + seconds_per_step * (progress.total_steps - progress.step))


def result_csv(metrics: list[dict[str, Any]]) -> bytes:
    """Make the result file: a line for each training step, empty where a step has no such number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RESULT_COLUMNS)
    for step in metrics:
        values = (step.get(key, "") for key in RESULT_COLUMNS.values())
        writer.writerow([round(value, 5) if isinstance(value, float) else value for value in values])
    return text.getvalue().encode()


def published(progress: Progress) -> dict[str, Any]:
    """The metrics of a step under OpenAI's names."""
    values = {
        "step": progress.step,
        "total_steps": progress.total_steps,
        "train_loss": progress.train_loss,
        "train_mean_token_accuracy": progress.train_accuracy,
        "valid_loss": progress.valid_loss,
        "valid_mean_token_accuracy": progress.valid_accuracy,
        "full_valid_loss": progress.full_valid_loss,
        "full_valid_mean_token_accuracy": progress.full_valid_accuracy,
    }
    # JSON has no word for a loss that is not a number: it is left out, like one that was not measured.
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
