"""Runs the queue: processes that each work on one job, one that validates and as many that train as there are slots.

What a process did is read from the database, where it wrote it; what it did not live to write is written here.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from finetune_assets.server.database.job_life import JobStateError
from finetune_assets.server.database.jobs import CANCELLED, QUEUED, RUNNING, VALIDATING
from finetune_assets.server.database.stores import Stores

POLL_SECONDS = 0.1
HOUSEKEEPING_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_LOG_TAIL_BYTES = 2000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that works on a job, which was in `status` when it began."""

    job_id: str
    status: str
    process: subprocess.Popen[bytes]


def training_slots() -> int:
    """How many jobs train at once: two where there are two cores or more."""
    return min(2, cores())


def threads_per_process() -> int:
    """Compute threads of each training process, and of the server itself.

    Two jobs side by side on one thread each finish sooner than one after the other on two: a small model's matrices
    are too small for threads. On a 2-core machine two such jobs learned 12.2 examples a second together, one on two
    threads 9.1; and threads that wait for each other lose far more once any other process is busy.
    """
    return max(1, cores() // training_slots())


def cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Supervisor:
    """Starts worker processes in the order of the queue, ends those of cancelled jobs, and notices those that died."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._workers: list[Worker] = []
        self._woken = threading.Event()
        self._stopping = False
        self._next_housekeeping = 0.0
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin with the queue as it is."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue now: a job was added or cancelled."""
        self._woken.set()

    def stop(self) -> None:
        """End all worker processes; the job in training goes back to the queue."""
        self._stopping = True
        self.wake()
        self._thread.join()
        for worker in self._workers:
            _end(worker.process)
            job = self._stores.jobs.get(worker.job_id)
            if job is not None and job.status == RUNNING:
                self._stores.job_life.put_back(job.id)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._clear_up()
                self._fill(VALIDATING, slots=1)
                self._fill(QUEUED, training_slots())
                self._keep_house()
            except Exception:
                logger.exception("The job queue met an error and tries again")
            self._woken.wait(POLL_SECONDS if self._workers else HOUSEKEEPING_SECONDS)
            self._woken.clear()

    def _keep_house(self) -> None:
        if time.monotonic() >= self._next_housekeeping:
            self._stores.files.remove_expired()
            self._next_housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS

    def _clear_up(self) -> None:
        """Settle the jobs whose process has ended, and end the processes of cancelled ones."""
        for worker in list(self._workers):
            if worker.process.poll() is not None or self._is_cancelled(worker):
                _end(worker.process)
                self._settle(worker)
                self._workers.remove(worker)

    def _fill(self, status: str, slots: int) -> None:
        """Start processes for the oldest jobs in this state while there are slots."""
        while sum(worker.status == status for worker in self._workers) < slots:
            job = self._stores.jobs.oldest(status, besides=[worker.job_id for worker in self._workers])
            if job is None:
                return
            self._workers.append(self._spawn(job.id, status))

    def _is_cancelled(self, worker: Worker) -> bool:
        job = self._stores.jobs.get(worker.job_id)
        return job is None or job.status == CANCELLED

    def _settle(self, worker: Worker) -> None:
        """Bring a job whose process has ended to a final state, unless it did so itself."""
        job = self._stores.jobs.get(worker.job_id)
        if job is None:
            return
        unfinished = (VALIDATING,) if worker.status == VALIDATING else (QUEUED, RUNNING)
        if job.status in unfinished:
            try:
                self._stores.job_life.failed(job.id, "server_error", self._obituary(worker))
            except JobStateError:
                logger.info("Job %s was cancelled while its process died", job.id)
        if worker.status == QUEUED:
            self._stores.models.sweep(job.id)

    def _spawn(self, job_id: str, status: str) -> Worker:
        module = "finetune_assets.server.worker"
        command = [sys.executable, "-m", module, "--home", str(self._stores.home), "--job", job_id]
        log = self._stores.log(job_id)
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the server's terminal must end the server, which then ends the worker.
            process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Worker(job_id, status, process)

    def _obituary(self, worker: Worker) -> str:
        code = worker.process.returncode
        how = f"with exit code {code}" if code >= 0 else f"by the signal {signal.Signals(-code).name}"
        hint = " (as the system does when memory runs out)" if code == -signal.SIGKILL else ""
        log = self._stores.log(worker.job_id)
        tail = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return f"The process that worked on the job was ended {how}{hint}. End of its log, {log}:\n{tail or '(empty)'}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
