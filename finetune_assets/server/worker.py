"""One process for one job: validates its files, or trains its model, and writes what happens to the database.

`python -m finetune_assets.server.worker --home H --job ID` does what the job's state asks for next. The process
gives way to the server (a lower priority), and ends when the server does.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import io
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import catalog
from finetune_assets.server.database.job_life import JobStateError
from finetune_assets.server.database.jobs import QUEUED, VALIDATING
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores

if TYPE_CHECKING:
    from finetune_assets.server.training import Progress
    from finetune_assets.training_file.validation import FileReport

NICENESS = 10
PARENT_POLL_SECONDS = 0.5
RESULT_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""The columns of a result file, and the published metrics that fill them."""
_ERRORS_TOLD = 5


def main() -> None:
    """Do the next step of the job's life."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the server's folder")
    parser.add_argument("--job", required=True, help="id of the job")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process whose end ends this one")
    arguments = parser.parse_args()
    os.nice(NICENESS)
    threading.Thread(target=_end_with, args=[arguments.parent], daemon=True).start()
    stores = Stores(arguments.home)
    with _alone(stores, arguments.job):
        work(stores, arguments.job)


def work(stores: Stores, job_id: str) -> None:
    """Validate or train, as the job's state asks; errors of ours fail the job, others end the process."""
    job = stores.jobs.get(job_id)
    steps = {VALIDATING: validate, QUEUED: train}
    if job is None or job.status not in steps:
        return
    try:
        steps[job.status](stores, job)
    except JobStateError as error:
        print(f"stopped: {error}")
    except FinetuneAssetsError as error:
        with suppress(JobStateError):
            stores.job_life.failed(job.id, "training_failed", str(error))


def validate(stores: Stores, job: Job) -> None:
    """Send the job on to training, or fail it over the lines and fields that are wrong in its files."""
    from finetune_assets.training_file.validation import validate as validate_files

    for param, file_id in (("training_file", job.training_file), ("validation_file", job.validation_file)):
        if file_id is not None and stores.files.get(file_id) is None:
            stores.job_life.failed(job.id, f"invalid_{param}", f"No such File object: {file_id}", param)
            return
    validation = stores.files.path(job.validation_file) if job.validation_file else None
    report = validate_files(stores.files.path(job.training_file), validation, job.base)
    for param, file in zip(("training_file", "validation_file"), report.files, strict=False):
        if file.errors:
            stores.job_life.failed(job.id, _error_code(file, param), _describe(file, param), param)
            return
    stores.job_life.validated(job.id)


def train(stores: Stores, job: Job) -> None:
    """Train the model from the start and publish it with its result file."""
    stores.job_life.started(job.id)
    stores.models.clear(job.id)
    from finetune_assets.server.training import TrainingRequest
    from finetune_assets.server.training import train as train_model

    model = catalog.find(stores, job.model)
    request = TrainingRequest(
        base=model.base,
        adapter=model.adapter,
        training_file=stores.files.path(job.training_file),
        validation_file=stores.files.path(job.validation_file) if job.validation_file else None,
        output=stores.models.output(job.id),
        seed=job.seed,
        **job.hyperparameters,
    )
    result = train_model(request, Reporter(stores, job.id))
    results = stores.files.add(
        io.BytesIO(result_csv(stores.events.metrics(job.id))),
        filename="step_metrics.csv",
        purpose="fine-tune-results",
    )
    path = stores.models.relative(result.model_dir)
    stores.job_life.succeeded(job.id, path=path, result_file=results.id, trained_tokens=result.trained_tokens)


class Reporter:
    """Publishes the trainer's progress as events and checkpoints."""

    def __init__(self, stores: Stores, job_id: str) -> None:
        self._stores = stores
        self._job_id = job_id
        self._first: float | None = None
        """When the first step ended; what came before it, loading and looking at images, comes only once."""

    def __call__(self, progress: Progress) -> None:
        """Publish one training step.

        Raises:
            JobStateError: the job was cancelled.
        """
        metrics = _metrics(progress)
        self._stores.job_life.stepped(self._job_id, metrics, progress.hyperparameters, self._finish(progress))
        if progress.checkpoint is not None:
            path = self._stores.models.relative(progress.checkpoint)
            self._stores.job_life.checkpointed(self._job_id, metrics, path)
            self._stores.models.retire_checkpoints(self._job_id)

    def _finish(self, progress: Progress) -> int | None:
        """Estimate the end in Unix seconds; None at the first step, which tells nothing."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            return None
        seconds_per_step = (now - self._first) / (progress.step - 1)
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


def _metrics(progress: Progress) -> dict[str, Any]:
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


def _error_code(file: FileReport, param: str) -> str:
    if any(error.code == "too_few_examples" for error in file.errors):
        return "invalid_n_examples"
    return f"invalid_{param}"


def _describe(file: FileReport, param: str) -> str:
    told = [f"line {e.line}: {e.message}" if e.line else e.message for e in file.errors[:_ERRORS_TOLD]]
    if (rest := len(file.errors) - _ERRORS_TOLD) > 0:
        told.append(f"and {rest} more")
    return f"The {param.replace('_', ' ')} cannot be used: {'; '.join(told)}"


@contextmanager
def _alone(stores: Stores, job_id: str) -> Iterator[None]:
    # After a crash of the server the old process lives for up to PARENT_POLL_SECONDS beside the new one.
    with stores.log(job_id).open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    print("stopped: the server is gone", flush=True)
    os._exit(1)


if __name__ == "__main__":
    main()
