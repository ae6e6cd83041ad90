"""Starts a worker for each job by a command, such as one that hands it to a scheduler: `finetune-assets launch`.

Who starts workers decides nothing: a job belongs to whoever claims it (`database.jobs`). So a command that is run
twice, by two launchers or by one that was started again, costs a worker that finds nothing to do and ends, and a job
that comes back to the queue, because its worker's machine is gone, gets another; so does one whose worker never came.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.jobs import JobStore
from finetune_assets.server.database.schema import Job
from finetune_assets.server.shared import NothingSharedError, Shared
from finetune_assets.server.shortage import ShortageError

JOB, NAME = "{job}", "{name}"
LOOK_SECONDS = 1.0
RETRY_SECONDS = 30.0
PATIENCE_SECONDS = 600.0
"""How long a job may wait for a worker that was handed over before another is, and twice as long each time after: a
scheduler may have lost it with a machine before it took the job, or have no room yet."""
COMMAND_SECONDS = 120.0
"""How long a command may take: it hands a worker over, and is none."""

logger = logging.getLogger(__name__)
_Place = tuple[str, int]
"""A job (id) and how often it had been claimed when it waited."""


class LaunchCommandError(FinetuneAssetsError, ValueError):
    """A command cannot start a worker for each job."""


class Launcher:
    """Runs `command` for each waiting job.

    `{job}` in it is the job's id, and `{name}` what tells its workers apart: the id, from the second on with how often
    the job had been taken up, and a letter where one was handed over in vain.

    Raises:
        LaunchCommandError: the command names no job.
    """

    def __init__(self, jobs: JobStore, command: Sequence[str]) -> None:
        if not any(JOB in word for word in command):
            raise LaunchCommandError(
                f"the command must name the job by {JOB}, as in: "
                f"launch ray job submit --no-wait --submission-id {NAME} -- finetune-assets worker --job {JOB}"
            )
        self._jobs = jobs
        self._command = command
        self._seen: set[_Place] = set()
        self._started: dict[_Place, tuple[float, int]] = {}
        """When a job that still waits may be handed over again, by `time.monotonic`, and how often it was."""

    def look(self) -> None:
        """Start a worker for each job that waited at the last look too: one between two processes is not alone."""
        waiting = {(job.id, job.claim): job for job in self._jobs.waiting()}
        self._started = {place: started for place, started in self._started.items() if place in waiting}
        for place, job in waiting.items():
            again_at, times = self._started.get(place, (0.0, 0))
            if place in self._seen and time.monotonic() >= again_at:
                if self._start(job, times):
                    self._started[place] = time.monotonic() + PATIENCE_SECONDS * 2**times, times + 1
                else:
                    self._started[place] = time.monotonic() + RETRY_SECONDS, times
        self._seen = set(waiting)

    def _start(self, job: Job, times: int) -> bool:
        name = job.id if job.claim == 0 and not times else f"{job.id}-{job.claim}{_letter(times)}"
        command = [word.replace(JOB, job.id).replace(NAME, name) for word in self._command]
        try:
            subprocess.run(command, check=True, timeout=COMMAND_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            logger.warning("No worker was started for %s (%s); again in %.0f s: %s",
                           job.id, error, RETRY_SECONDS, shlex.join(command))  # fmt: skip
            return False
        logger.info("A worker for %s: %s", job.id, shlex.join(command))
        return True


def _letter(times: int) -> str:
    """What tells a worker from those that were handed over in vain before: nothing, then b, c and so on."""
    return chr(ord("a") + min(times, 25)) if times else ""


def launch(shared: Shared, command: Sequence[str]) -> None:
    """Start workers until SIGINT or SIGTERM.

    Raises:
        NothingSharedError: there is no database that workers could share.
        LaunchCommandError: the command names no job.
        DatabaseUnreachableError: nobody answers there.
    """
    if shared.database is None:
        raise NothingSharedError(
            "workers take jobs of servers that were started with --database and --store; name the same database here "
            "(or set FINETUNE_ASSETS_DATABASE). A server without one trains its jobs itself"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    database = Database(shared.database)
    launcher = Launcher(JobStore(database), command)
    print(f"A worker is started for each job by: {shlex.join(command)}  (Ctrl-C stops this, and no worker)", flush=True)
    with suppress(KeyboardInterrupt):
        while True:
            try:
                launcher.look()
            except ShortageError as error:
                logger.warning("The queue is not seen: %s", error)
            time.sleep(LOOK_SECONDS)
