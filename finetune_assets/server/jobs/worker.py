"""One process for a job: validates its files, or trains its model, and writes what happens to the database.

`run` does what the job's state asks for next, in a process that `process.begin` began, or trains several jobs of one
base model together. At SIGTERM, and when a job is paused, it saves what it has trained after the current step and ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from finetune_assets.errors import BaseModelError, FinetuneAssetsError, TrainingFileError
from finetune_assets.server import catalog
from finetune_assets.server.database.files import DamagedFileError
from finetune_assets.server.database.job_life import MAX_DEATHS, JobStateError
from finetune_assets.server.database.jobs import QUEUED, RUNNING, VALIDATING
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.grading.graders import read as read_grader
from finetune_assets.server.jobs import validation as job_validation
from finetune_assets.server.shared import Shared
from finetune_assets.server.shortage import MEMORY, ShortageError, shortage_of
from finetune_assets.server.training import threads
from finetune_assets.server.training.room import TooLargeError

if TYPE_CHECKING:
    from finetune_assets.server.jobs.report import JobReport
    from finetune_assets.server.training.request import TrainingRequest
    from finetune_assets.server.training.watcher import TrainingResult

_ERROR_CODES = {
    DamagedFileError: "damaged_file",
    BaseModelError: "base_model_unusable",
    TrainingFileError: "invalid_training_file",
    TooLargeError: MEMORY.code,
}


def run(home: Path, taken: Mapping[str, int]) -> None:
    """Do the next step of a job's life, alone and under the lease of its claim; several jobs are trained together."""
    os.environ.setdefault(*threads.SAME_BITS)
    with _ending_with_shortages():
        stores = Stores(home, Shared.from_environment())
        held = {job_id: Held(stores.of(claim), job_id, claim) for job_id, claim in taken.items()}
        threading.Thread(target=_stay, args=[stores.shared.lease_seconds, held], daemon=True).start()
        for job in list(held.values()):
            job.take()
        if len(held) == 1:
            [job] = held.values()
            work(job.stores, job.job_id)
        else:
            work_together(held)


@dataclass(slots=True)
class Held:
    """A job that this process has taken up."""

    stores: Stores
    """As the worker with its claim opens them."""
    job_id: str
    claim: int
    _alone: TextIOWrapper | None = None

    def take(self) -> None:
        """Wait until no other process works on it: after a crash of the server the old one lives for a moment."""
        self._alone = self.stores.log(self.job_id).open("a")
        fcntl.flock(self._alone, fcntl.LOCK_EX)

    def is_lost(self, seconds: float) -> bool:
        """Renew the lease for so many seconds, and say whether somebody else has taken the job up meanwhile."""
        if self.stores.jobs.renew(self.job_id, self.claim, seconds):
            return False
        job = self.stores.jobs.get(self.job_id)
        return job is None or job.claim != self.claim

    def let_go(self) -> None:
        """Let others take it up, unless it only stops with the server, which puts it back in the queue."""
        if self._alone is not None:
            self._alone.close()
        job = self.stores.jobs.get(self.job_id)
        if job is not None and job.status != RUNNING:
            self.stores.jobs.release(self.job_id, self.claim)


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
    with _blaming(stores, job):
        steps[job.status](stores, job)


@contextmanager
def _blaming(stores: Stores, job: Job) -> Iterator[None]:
    """Fail the job for what it is to blame for; what the machine lacks, and what is our fault, is raised."""
    try:
        yield
    except JobStateError as error:
        print(f"stopped: {error}", flush=True)
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
    from finetune_assets.server.jobs.report import JobReport
    from finetune_assets.server.training.loop import train as train_model

    request = _begin(stores, job)
    report = JobReport(stores, job)
    with _reporting([report]):
        result = train_model(request, report)
    if result is not None:
        _publish(stores, job, result)


def work_together(held: dict[str, Held]) -> None:
    """Train several jobs of one base model; whoever ends is let go, and taken out of `held`, while the others go on.

    Raises:
        Exception: what strikes all of them; the supervisor tries each again.
    """
    from finetune_assets.server.jobs.report import JobReport
    from finetune_assets.server.training.cotraining import train_together

    begun: list[tuple[Held, Job, TrainingRequest]] = []
    for one in list(held.values()):
        job = one.stores.jobs.get(one.job_id)
        if job is not None and job.status == QUEUED:
            with _apart(one, job):
                begun.append((one, job, _begin(one.stores, job)))
        if not begun or begun[-1][0] is not one:
            held.pop(one.job_id).let_go()
    reports = [JobReport(one.stores, job, together=len(begun)) for one, job, _ in begun]
    with _reporting(reports):
        for number, outcome in train_together([request for _, _, request in begun], reports) if begun else ():
            one, job, _ = begun[number]
            with _apart(one, job):
                if isinstance(outcome, Exception):
                    raise outcome
                if outcome is not None:
                    _publish(one.stores, job, outcome)
            held.pop(one.job_id).let_go()


@contextmanager
def _apart(one: Held, job: Job) -> Iterator[None]:
    """Let an error that one of several jobs meets strike that job alone, even where it is our fault."""
    try:
        with _blaming(one.stores, job):
            yield
    except Exception as error:
        if shortage_of(error):
            raise
        traceback.print_exc()
        told = f"Its training met an error ({type(error).__name__}); the log of the jobs trained with it says more."
        with suppress(JobStateError):
            one.stores.job_life.interrupted(job.id, told, "server_error", MAX_DEATHS)


def _begin(stores: Stores, job: Job) -> TrainingRequest:
    """Say that the job's training begins, and bring together what it needs."""
    from finetune_assets.server.training.request import TrainingRequest

    stores.job_life.started(job.id)
    stores.models.describe(job)
    stores.bring_state(job)
    model = catalog.find(stores, job.model)
    method: Any = job.method
    return TrainingRequest(
        base=model.base,
        adapter=model.adapter,
        training_file=job_validation.content(stores, job.training_file),
        validation_file=job_validation.content(stores, job.validation_file) if job.validation_file else None,
        output=stores.models.output(job.id),
        state=stores.state(job.id),
        method=method,
        seed=job.seed,
        **_reinforced(stores, job),
        **job.hyperparameters,
    )


def _publish(stores: Stores, job: Job, result: TrainingResult) -> None:
    from finetune_assets.server.jobs.report import result_csv

    path = stores.models.publish(result.model_dir, job.claim)
    results = result_csv(stores.events.metrics(job.id))
    stores.job_life.succeeded(job.id, path=path, results=results, trained_tokens=result.trained_tokens)


def _reinforced(stores: Stores, job: Job) -> dict[str, Any]:
    """What a request for reinforcement has beside numbers.

    Raises:
        BaseModelError: a model that its grader asks is no longer here.
    """
    if job.reinforcement is None:
        return {}
    from finetune_assets.server.generation.requests import ModelRef

    found = {name: catalog.find(stores, name) for name, _ in read_grader(job.reinforcement["grader"]).models}
    schema = (job.reinforcement.get("response_format") or {}).get("json_schema")
    return {
        "grader": job.reinforcement["grader"],
        "models": {name: ModelRef(model.base, model.adapter) for name, model in found.items()},
        "json_schema": schema and schema.get("schema", {"type": "object"}),
        "reasoning_effort": job.reinforcement.get("reasoning_effort"),
    }


@contextmanager
def _reporting(reports: Sequence[JobReport]) -> Iterator[None]:
    """Report on jobs; SIGTERM stops their training after a step."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if not any(report.stepping for report in reports):  # nothing to save yet
            raise SystemExit(0)
        for report in reports:
            report.stop()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for report in reports:
            report.close()


def _stay(seconds: float, held: Mapping[str, Held]) -> None:
    """Renew the leases while this process lives, and end it once all jobs are somebody else's."""
    while True:
        mine = list(held.values())
        try:
            lost = [one.is_lost(seconds) for one in mine]
            if mine and all(lost):
                print("stopped: another worker has taken the job up", flush=True)
                os._exit(0)
        except ShortageError as error:  # until it answers, steps fail and nothing is lost
            print(f"the lease is not renewed: {error}", flush=True)
        time.sleep(seconds / 6)
