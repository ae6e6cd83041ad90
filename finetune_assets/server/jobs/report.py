"""What a training worker publishes of its job: events, checkpoints, the result file, and Weights & Biases runs."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from finetune_assets.server.database.job_life import JobStateError
from finetune_assets.server.database.jobs import PAUSED, QUEUED
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs.weights_and_biases import WandbRuns
from finetune_assets.server.training.rewards import Rewards
from finetune_assets.server.training.threads import Threads
from finetune_assets.server.training.watcher import Progress, Watcher, Wish

RESULT_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""The columns of a result file, and the published metrics that fill them."""
REWARD_COLUMNS = {
    "step": "step",
    "train_reward_mean": "train_mean_reward",
    "valid_reward_mean": "full_valid_mean_reward",
}
"""Those of reinforcement."""
_PARSE_ERRORS = ("sample_parse_error", "invalid_variable_error")
"""An answer was not such that the grader found in it what it compares."""


class JobReport(Watcher):
    """Publishes a job's training, and passes on to it that the job was paused or the server stops.

    `together` is how many jobs this process trains.
    """

    def __init__(self, stores: Stores, job: Job, together: int = 1) -> None:
        self._stores = stores
        self._claim = job.claim
        self._job_id = job.id
        self._grader: dict[str, Any] = (job.reinforcement or {}).get("grader", {})
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
        metrics = published(progress, self._grader)
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
            self._publish(published(progress, self._grader), snapshot)
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
    columns = REWARD_COLUMNS if any("train_mean_reward" in step for step in metrics) else RESULT_COLUMNS
    writer.writerow(columns)
    for step in metrics:
        values = (step.get(key, "") for key in columns.values())
        writer.writerow([round(value, 5) if isinstance(value, float) else value for value in values])
    return text.getvalue().encode()


def published(progress: Progress, grader: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The metrics of a step under OpenAI's names; `grader` is that of the job, where it has one."""
    if progress.train_rewards is not None:
        return _rewarded(progress, progress.train_rewards, grader)
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


def _rewarded(progress: Progress, train: Rewards, grader: Mapping[str, Any]) -> dict[str, Any]:
    """The same of reinforcement, as OpenAI's guide on it shows them."""
    told: dict[str, Any] = {
        "step": progress.step,
        "total_steps": progress.total_steps,
        "train_mean_reward": train.mean,
        "completion_tokens_mean": train.completion_tokens,
        "reasoning_tokens_mean": train.reasoning_tokens,
        "train_cut_off_mean": train.cut,
        "scores": {"train_reward_mean": train.mean},
        "errors": {f"train_{name}_mean": share for name, share in train.errors.items()},
    }
    valid = progress.valid_rewards
    if valid is not None:
        parse_errors = sum(valid.errors.get(name, 0.0) for name in _PARSE_ERRORS)
        told |= {
            "full_valid_mean_reward": valid.mean,
            "full_valid_mean_parse_error": min(1.0, parse_errors),
            "valid_reasoning_tokens_mean": valid.reasoning_tokens,
        }
        told["scores"]["valid_reward_mean"] = valid.mean
        told["errors"] |= {f"valid_{name}_mean": share for name, share in valid.errors.items()}
    told["scores"]["graders"] = _by_grader(grader, train, valid)
    return told


def _by_grader(grader: Mapping[str, Any], train: Rewards, valid: Rewards | None) -> list[dict[str, Any]]:
    """Mean rewards of each grader: of those of `multi`, or of the one there is."""
    inner = grader.get("graders", {})
    found = []
    for name in train.by_grader or [grader.get("name", "")]:
        described = inner.get(name, inner) if train.by_grader else grader
        told = {"name": name, "type": described.get("type"), "train_reward_mean": train.by_grader.get(name, train.mean)}
        if valid is not None:
            told["valid_reward_mean"] = valid.by_grader.get(name, valid.mean)
        found.append(told)
    return found
