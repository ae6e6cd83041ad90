"""One process for one job: validates its files, or trains its model, and writes what happens to the database.

`run` does what the job's state asks for next, in a process that `process.begin` began. At SIGTERM, and when the job is
paused, it saves what it has trained after the current step and ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from finetune_assets.errors import BaseModelError, FinetuneAssetsError, TrainingFileError
from finetune_assets.server import catalog
from finetune_assets.server.database.files import DamagedFileError
from finetune_assets.server.database.job_life import JobStateError
from finetune_assets.server.database.jobs import QUEUED, VALIDATING
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs import validation as job_validation
from finetune_assets.server.shared import Shared
from finetune_assets.server.shortage import MEMORY, ShortageError, shortage_of
from finetune_assets.server.training import threads
from finetune_assets.server.training.room import TooLargeError

if TYPE_CHECKING:
    from finetune_assets.server.jobs.report import JobReport

_ERROR_CODES = {
    DamagedFileError: "damaged_file",
    BaseModelError: "base_model_unusable",
    TrainingFileError: "invalid_training_file",
    TooLargeError: MEMORY.code,
}


def run(home: Path, job_id: str, claim: int) -> None:
    """Do the next step of the job's life, alone and under the lease of its claim."""
    os.environ.setdefault(*threads.SAME_BITS)
    with _ending_with_shortages():
        stores = Stores(home, Shared.from_environment(), claim)
        threading.Thread(target=_stay, args=[stores, job_id, claim], daemon=True).start()
        with _alone(stores, job_id):
            work(stores, job_id)


def work(stores: Stores, job_id: str) -> None:
    """Validate or train, as the job's state asks.

    What the job is to blame for fails it.

    Raises:
        Exception: the machine lacks something, or the fault is ours; the supervisor tries the job again.
    """
    job = stores.jobs.get(job_id)
    steps = {VALIDATING: job_validation.validate, QUEUED: train}
    if job is None or job.status not in steps:
        return
    try:
        steps[job.status](stores, job)
    except JobStateError as error:
        print(f"stopped: {error}")
    except FinetuneAssetsError as error:
        if shortage_of(error):
            raise
        code, message = _reason(error)
        with suppress(JobStateError):
            stores.job_life.failed(job.id, code, message, "training_file" if code.startswith("invalid") else None)


def _reason(error: FinetuneAssetsError) -> tuple[str, str]:
    """The job's error code and message for what went wrong."""
    code = next((code for kind, code in _ERROR_CODES.items() if isinstance(error, kind)), "training_failed")
    prefix = "The training file cannot be used: " if code == "invalid_training_file" else ""
    return code, f"{prefix}{error}"


@contextmanager
def _ending_with_shortages() -> Iterator[None]:
    """Tell the supervisor of a shortage by the exit code."""
    try:
        yield
    except Exception as error:
        if lack := shortage_of(error):
            print(f"{type(error).__name__}: {error}", flush=True)
            raise SystemExit(lack.exit_code) from None
        raise


def train(stores: Stores, job: Job) -> None:
    """Train the model, from the last saved state where there is one, and publish it with its result file."""
    from finetune_assets.server.jobs.report import result_csv
    from finetune_assets.server.training.loop import TrainingRequest
    from finetune_assets.server.training.loop import train as train_model

    stores.job_life.started(job.id)
    stores.models.describe(job)
    stores.bring_state(job)
    model = catalog.find(stores, job.model)
    method: Any = job.method
    request = TrainingRequest(
        base=model.base,
        adapter=model.adapter,
        training_file=job_validation.content(stores, job.training_file),
        validation_file=job_validation.content(stores, job.validation_file) if job.validation_file else None,
        output=stores.models.output(job.id),
        state=stores.state(job.id),
        method=method,
        seed=job.seed,
        **job.hyperparameters,
    )
    with _reporting(stores, job) as report:
        result = train_model(request, report)
    if result is None:
        return
    path = stores.models.publish(result.model_dir, job.claim)
    results = result_csv(stores.events.metrics(job.id))
    stores.job_life.succeeded(job.id, path=path, results=results, trained_tokens=result.trained_tokens)


@contextmanager
def _reporting(stores: Stores, job: Job) -> Iterator[JobReport]:
    """Report on the job; SIGTERM stops training after a step."""
    from finetune_assets.server.jobs.report import JobReport

    report = JobReport(stores, job)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if not report.stepping:  # nothing to save yet
            raise SystemExit(0)
        report.stop()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield report
    finally:
        signal.signal(signal.SIGTERM, before)
        report.close()


@contextmanager
def _alone(stores: Stores, job_id: str) -> Iterator[None]:
    # After a crash of the server the old process lives for a moment beside the new one.
    with stores.log(job_id).open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield


def _stay(stores: Stores, job_id: str, claim: int) -> None:
    """Renew the lease while this process lives, and end it once the job is somebody else's."""
    seconds = stores.shared.lease_seconds
    while True:
        try:
            if not stores.jobs.renew(job_id, claim, seconds):
                job = stores.jobs.get(job_id)
                if job is None or job.claim != claim:
                    print("stopped: another worker has taken the job up", flush=True)
                    os._exit(0)
        except ShortageError as error:  # until it answers, steps fail and nothing is lost
            print(f"the lease is not renewed: {error}", flush=True)
        time.sleep(seconds / 6)
