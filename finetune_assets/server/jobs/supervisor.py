"""Runs the queue: processes that each work on a job, one that validates and as many that train as there are slots.

Where there is a GPU, a process trains several jobs that wait for the same base model together (`training.cotraining`).

Several supervisors may run one queue, each with a home of its own (`Shared`): a job is claimed before it is begun, and
one whose process, or whole machine, is not heard of for the length of its lease goes back to the queue.

What a process did is read from the database, where it wrote it; what it did not live to write is written here. The
process of a paused or stopped job saves what it has and ends by itself; that of a cancelled one is not waited for.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from finetune_assets.server.database.job_life import MAX_DEATHS, MAX_INTERRUPTIONS, JobStateError
from finetune_assets.server.database.jobs import CANCELLED, PAUSED, QUEUED, RUNNING, VALIDATING
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.devices import cuda_devices, jobs_per_device, jobs_per_process
from finetune_assets.server.jobs.process import begin
from finetune_assets.server.shortage import MEMORY, ShortageError, by_exit, memory_kills, rest_seconds, shortage_of

POLL_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""How often one of several supervisors looks for jobs that came in elsewhere."""
HOUSEKEEPING_SECONDS = 60.0
SNAPSHOT_SECONDS = 600.0
CANCEL_SECONDS = 2.0
"""How long the process of a cancelled job may take to end by itself."""
STUCK_SECONDS = 300.0
"""How long the process of a paused job may take to save it and end, and any to begin."""
UNSUSPICIOUS = 2
"""Interruptions without progress in between after which a job is begun at once when the server starts."""
AWAIT_SECONDS = 60.0
"""How long a job waits at most for those that came with it, to be trained together with them."""
ALONE_AFTER = 2
"""A job whose process has died so often since it saved anything trains alone: it may be what the process dies of."""
_FROM_OUTSIDE = tuple(-number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
"""Exit codes of processes that somebody ended: no fault of the job, which is tried as often as if the server was."""
_WITH_ITS_ORIGIN = 255
"""What `multiprocessing` says of a fork whose origin is gone, with which it ends: somebody ended that too."""
STOP_SECONDS = 20.0
"""How long processes may take to save their training when the server stops."""
_RETRY_SECONDS = 5.0
_LOG_TAIL_BYTES = 4000
_LAST_WORDS = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit))\b(?:: (.*))?$", re.MULTILINE)
_ABOUT_THE_MACHINE = ("OutOfMemoryError", "MemoryError", "OSError", "SafetensorError", "ShortageError")
"""Errors whose message is shown to clients; that of another might repeat what it choked on, a prompt for example."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Worker:
    """A process that works on a job, which was in `status` when it began."""

    job_id: str
    claim: int
    status: str
    device: str | None
    """The GPU it trains on, as `CUDA_VISIBLE_DEVICES` names it; None: no GPU."""
    process: BaseProcess
    memory_kills: int
    """How many processes Linux had ended for want of memory when it began."""
    renewed: float = field(default_factory=time.monotonic)
    """When its lease was renewed here last (`time.monotonic`)."""
    kill_at: float = math.inf
    """When to end it (`time.monotonic`), once it has nothing to do."""
    together: list[Worker] = field(default_factory=list)
    """All on whose jobs the process works; the first one's log has what it prints."""

    def __post_init__(self) -> None:
        self.together.append(self)

    @property
    def job_log(self) -> str:
        """The job (id) in whose log its process prints."""
        return self.together[0].job_id

    @property
    def exit_code(self) -> int:
        """Of a process that has ended, which was 0 in good order, and below 0 by a signal."""
        return self.process.exitcode or 0

    def give_until(self, patience: float) -> None:
        """End the process if it takes longer than these seconds, counted from when it was first given as few.

        It is not ended as long as another of its jobs has a use for it.
        """
        self.kill_at = min(self.kill_at, time.monotonic() + patience) if math.isfinite(patience) else math.inf
        if all(time.monotonic() >= worker.kill_at for worker in self.together):
            self.process.kill()


class Supervisor:
    """Starts worker processes for each owner in turn, ends those of cancelled jobs, and notices those that died.

    `jobs` is how many processes train at once on one device; None leaves it to `jobs_per_device`, 0 leaves all of the
    queue to others. `only` is the one job (id) to work on. `together` is how many jobs of one base model a process
    trains at most; None leaves it to `jobs_per_process`.
    """

    def __init__(
        self, stores: Stores, jobs: int | None = None, only: str | None = None, together: int | None = None
    ) -> None:
        self._stores = stores
        self._only = only
        self._devices: list[str | None] = [*cuda_devices()] or [None]
        self._slots = jobs_per_device() if jobs is None else jobs
        self._together = jobs_per_process() if together is None else together
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._processes = _processes(forked=self._devices == [None])
        self._workers: list[Worker] = []
        self._woken = threading.Event()
        self._idle_seconds = LOOK_SECONDS if stores.database.shared else HOUSEKEEPING_SECONDS
        self._stopping = False
        self._hurried = False
        self._resting: dict[str, float] = {}
        """Jobs that met a shortage, and when they are tried again (`time.monotonic`)."""
        self._shortages: dict[str, int] = {}
        self._awaiting: dict[str, float] = {}
        """Jobs that wait for others to be trained together with, and until when (`time.monotonic`)."""
        self._starts = 0
        self._served: dict[tuple[str, str], int] = {}
        """When a job in this state of each owner was last begun, counted in starts."""
        self._next_housekeeping = 0.0
        self._next_look = 0.0
        self._next_snapshot = 0.0
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin with the queue as it is."""
        self._let_rest()
        self._thread.start()

    def _let_rest(self) -> None:
        """Let each job rest during which the server ended again and again, twice as long each time.

        It may be what ends the server, and others get their turn. Where somebody else ends it, in whatever haste, no
        job is given up for that.
        """
        for job in self._stores.jobs.waiting() if self._slots else ():
            if job.interruptions > UNSUSPICIOUS and self._only in (None, job.id):
                rest = rest_seconds(job.interruptions - UNSUSPICIOUS)
                self._resting[job.id] = time.monotonic() + rest
                self._stores.job_life.note(job.id, f"The job is begun again in {rest:.0f} seconds")

    def wake(self) -> None:
        """Look at the queue now: a job was added, cancelled or resumed."""
        self._woken.set()

    def busy(self) -> bool:
        """Whether a process is training."""
        return any(worker.status == QUEUED for worker in self._workers)

    def works(self) -> bool:
        """Whether a process validates or trains."""
        return bool(self._workers)

    def hurry(self) -> None:
        """Do not wait for training to be saved in `stop`. May be called from a signal handler."""
        self._hurried = True

    def stop(self) -> None:
        """Let all worker processes save what they have, and end them; jobs in training go back to the queue."""
        self._stopping = True
        self.wake()
        self._thread.join()
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers:
            while worker.process.exitcode is None and not self._hurried and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS / 2)
            worker.process.kill()
            worker.process.join()
            with suppress(ShortageError):  # then its lease comes to its end, or the next start puts it back
                with suppress(JobStateError):  # it is over, paused, or was not begun
                    self._stores.job_life.of(worker.claim).put_back(worker.job_id)
                self._stores.jobs.release(worker.job_id, worker.claim)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._clear_up()
                self._start_workers()
                self._keep_house()
                pause = POLL_SECONDS if self._workers else self._idle_seconds
                if self._resting:
                    pause = min(pause, max(POLL_SECONDS, min(self._resting.values()) - time.monotonic()))
            except Exception as error:
                if lack := shortage_of(error):
                    logger.warning("The job queue waits: %s. %s.", lack.words, lack.remedy)
                else:
                    logger.exception("The job queue met an error and tries again")
                pause = _RETRY_SECONDS
            self._woken.wait(pause)
            self._woken.clear()

    def _keep_house(self) -> None:
        if self._stores.database.shared and time.monotonic() >= self._next_look:
            self._stores.job_life.recover_lost(besides=[worker.job_id for worker in self._workers])
            self._next_look = time.monotonic() + LOOK_SECONDS
        if time.monotonic() >= self._next_housekeeping:
            self._stores.tidy(busy=[worker.job_id for worker in self._workers])
            self._stores.write_seal()
            if time.monotonic() >= self._next_snapshot:
                self._stores.snapshot()
                self._next_snapshot = time.monotonic() + SNAPSHOT_SECONDS
            if self._stores.removal.postponed:
                self._stores.removal.postponed = False
                self._stores.sweep()
            self._next_housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS

    def _clear_up(self) -> None:
        """Settle the jobs whose process has ended, and end the processes of cancelled ones."""
        for worker in list(self._workers):
            job = self._stores.jobs.get(worker.job_id)
            if worker.process.exitcode is not None:
                if job is not None and job.claim == worker.claim:
                    self._settle(worker, job)
                    self._stores.jobs.release(job.id, worker.claim)
                self._workers.remove(worker)
                self._next_housekeeping = 0.0
            elif job is not None and _left(worker, job):
                worker.kill_at = -math.inf
                self._workers.remove(worker)
            else:
                worker.give_until(_patience(worker, job))
                self._speak_for(worker, job)

    def _speak_for(self, worker: Worker, job: Job | None) -> None:
        """Renew the lease of a process that has not begun: it may take long to start, and renews it itself then."""
        seconds = self._stores.shared.lease_seconds
        if job is not None and job.status == worker.status and time.monotonic() >= worker.renewed + seconds / 6:
            self._stores.jobs.renew(job.id, worker.claim, seconds)
            worker.renewed = time.monotonic()

    def _settle(self, worker: Worker, job: Job) -> None:
        """Bring a job whose process has ended to a final state, unless it did so itself or has to wait."""
        died = worker.exit_code != 0
        # A job that was paused, and perhaps resumed, while the process worked on it waits; only a death ends it then.
        waits = (VALIDATING,) if worker.status == VALIDATING else (QUEUED,)
        if job.status == RUNNING or (died and job.status in waits):
            try:
                self._take_back(worker, job)
            except JobStateError:
                logger.info("Job %s was cancelled while its process died", job.id)
        elif died and job.status == PAUSED and worker.status == QUEUED:
            message = f"{self._obituary(worker)} Once resumed, training goes on from what was saved before."
            self._stores.job_life.of(worker.claim).note(job.id, message, "warn")
        if worker.status == QUEUED:
            self._stores.models.sweep(job.id)

    def _take_back(self, worker: Worker, job: Job) -> None:
        """Return a job to the queue whose process has not brought it to an end; after some attempts it has failed."""
        lack = by_exit(worker.exit_code) or (MEMORY if _killed_for_memory(worker) else None)
        life = self._stores.job_life.of(worker.claim)
        if lack is None:
            from_outside = worker.exit_code in _FROM_OUTSIDE or self._lost_its_origin(worker)
            at_most = MAX_INTERRUPTIONS if from_outside else MAX_DEATHS
            life.interrupted(job.id, self._obituary(worker), "server_error", at_most)
            return
        times = self._shortages[job.id] = self._shortages.get(job.id, 0) + 1
        rest = rest_seconds(times)
        self._resting[job.id] = time.monotonic() + rest
        told = f"{lack.words}.{last_error(self._stores.log(worker.job_log))} {lack.remedy}."
        if lack.passes:
            life.waits(job.id, f"{told} The job is tried again in {rest:.0f} seconds.")
        else:
            life.interrupted(job.id, told, lack.code, MAX_DEATHS)

    def _start_workers(self) -> None:
        """Start processes for jobs while there are slots, on the device with the fewest."""
        if self._slots and not any(worker.status == VALIDATING for worker in self._workers):
            self._start_next(VALIDATING, None)
        while True:
            device = min(self._devices, key=self._load)
            if self._load(device) >= self._slots or not self._start_next(QUEUED, device):
                return

    def _load(self, device: str | None) -> int:
        return len({id(w.process) for w in self._workers if w.status == QUEUED and w.device == device})

    def _start_next(self, status: str, device: str | None) -> bool:
        now = time.monotonic()
        self._resting = {job_id: until for job_id, until in self._resting.items() if until > now}
        busy = [*(worker.job_id for worker in self._workers), *self._resting]
        waiting = self._stores.jobs.oldest(status, busy, self._only)
        at_work = self._stores.jobs.at_work(status) if len(waiting) > 1 else {}
        waiting.sort(key=lambda job: (at_work.get(job.owner, 0), self._served.get((status, job.owner), 0)))
        for job in waiting:
            if self._awaits_others(job):
                continue
            claim = self._stores.jobs.claim(job.id, status, self._name, self._stores.shared.lease_seconds)
            if claim is None:
                continue  # another supervisor was sooner
            self._starts += 1
            self._served[status, job.owner] = self._starts
            self._awaiting.pop(job.id, None)
            taken = {job.id: claim} | self._companions(job, busy)
            try:
                process = self._spawn(taken, device)
            except (OSError, EOFError):
                for job_id, claim in taken.items():
                    self._stores.jobs.release(job_id, claim)
                raise
            together: list[Worker] = []
            for job_id, claim in taken.items():
                Worker(job_id, claim, status, device, process, memory_kills(), together=together)
            self._workers += together
            return True
        return False

    def _companions(self, job: Job, busy: Collection[str]) -> dict[str, int]:
        """Take up jobs that can be trained together with this one, each with its claim."""
        if not self._goes_with_others(job):
            return {}
        claims = {
            other.id: self._stores.jobs.claim(other.id, QUEUED, self._name, self._stores.shared.lease_seconds)
            for other in self._stores.jobs.like(job, busy, self._together - 1)
            if self._goes_with_others(other)
        }
        return {job_id: claim for job_id, claim in claims.items() if claim is not None}

    def _awaits_others(self, job: Job) -> bool:
        """Whether to begin with a job only once others that came with it are validated, and can be trained with it."""
        if not self._goes_with_others(job) or not self._stores.jobs.are_coming(job, list(self._resting)):
            return False
        if time.monotonic() >= self._awaiting.setdefault(job.id, time.monotonic() + AWAIT_SECONDS):
            return False
        return len(self._stores.jobs.like(job, list(self._resting), self._together)) < self._together - 1

    def _goes_with_others(self, job: Job) -> bool:
        """Whether a job can be trained together with others, in passes that they share."""
        if self._together == 1 or self._only or job.status != QUEUED or job.method != "supervised":
            return False
        innocent = job.interruptions < ALONE_AFTER and job.id not in self._shortages
        return innocent and not job.hyperparameters.get("lora_dropout")

    def _spawn(self, taken: Mapping[str, int], device: str | None) -> BaseProcess:
        environment = self._stores.shared.environment()
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        arguments = (self._stores.home, taken, self._stores.log(next(iter(taken))), environment)
        process = self._processes.Process(target=begin, args=arguments, daemon=True)
        process.start()
        # When memory runs out, Linux is to end the training and not the server.
        with suppress(OSError):
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("500")
        return process

    def _lost_its_origin(self, worker: Worker) -> bool:
        return worker.exit_code == _WITH_ITS_ORIGIN and isinstance(self._processes, ForkServerContext)

    def _obituary(self, worker: Worker) -> str:
        code = worker.exit_code
        how = f"with exit code {code}" if code >= 0 else f"by the signal {signal.Signals(-code).name}"
        if self._lost_its_origin(worker):
            how = "with the process from which it was forked"
        hint = (
            " (sent by a person or a scheduler, or by a system that is short of memory)"
            if code == -signal.SIGKILL
            else ""
        )
        log = self._stores.log(worker.job_log)
        return f"The process that worked on the job was ended {how}{hint}.{last_error(log)} Its log says more: {log}"


def _processes(*, forked: bool) -> ForkServerContext | SpawnContext:
    """Return what starts processes: forked from one that has loaded everything, or, where a GPU is used, anew.

    To load it takes as long as a small job trains. A process that was forked may not use a GPU that its origin has
    looked at, and other systems than Linux lend parts of theirs that cannot be forked.
    """
    if not forked or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetune_assets.server.jobs.loaded"])
    return context


def _left(worker: Worker, job: Job) -> bool:
    """Whether a job waits again while the process goes on that trained it with others."""
    return len(worker.together) > 1 and job.status == QUEUED and job.lease_until is None


def _patience(worker: Worker, job: Job | None) -> float:
    """Say how many seconds a process may still take: one whose job does not run any more has nothing to do."""
    if job is not None and job.claim != worker.claim:
        return 0  # it may have been stopped; others have the job now
    if job is None or job.status == CANCELLED:
        return CANCEL_SECONDS
    # A paused job may have been resumed, which waits for this process; and one that never begins is stuck too.
    return STUCK_SECONDS if worker.status == QUEUED and job.status != RUNNING else math.inf


def _killed_for_memory(worker: Worker) -> bool:
    return worker.exit_code == -signal.SIGKILL and memory_kills() > worker.memory_kills


def last_error(log: Path) -> str:
    """Name the error that the end of a worker's log tells of, and quote it if it speaks of the machine."""
    found = _LAST_WORDS.findall(log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace"))
    if not found:
        return ""
    kind, words = found[-1]
    quoted = f": {words.rstrip('.')}" if words and kind.endswith(_ABOUT_THE_MACHINE) else ""
    return f" Its last error was {kind}{quoted}."
