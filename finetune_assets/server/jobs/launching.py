"""Starts a worker for each job by a command, such as one that hands it to a scheduler: `finetune-assets launch`.

Who starts workers decides nothing: a job belongs to whoever claims it (`database.jobs`). So a command that is run
twice, by two launchers or by one that was started again, costs a worker that finds nothing to do, and a job that comes
back to the queue, because its worker's machine is gone, gets another.
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
COMMAND_SECONDS = 120.0
"""How long a command may take: it hands a worker over, and is none."""

logger = logging.getLogger(__name__)
_Place = tuple[str, int]
"""A job (id) and how often it had been claimed when it waited."""


class LaunchCommandError(FinetuneAssetsError, ValueError):
    """A command cannot start a worker for each job."""


class Launcher:
    """Runs `command` for each waiting job.

    `{job}` in it is the job's id, and `{name}` what tells its workers apart: the id, from the second on with a number.

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
        self._started: dict[_Place, float] = {}
        """When a job that still waits may be handed over (again), by `time.monotonic`."""

    def look(self) -> None:
        """Start a worker for each job that waited at the last look too: one between two processes is not alone."""
        waiting = {(job.id, job.claim): job for job in self._jobs.waiting()}
        self._started = {place: until for place, until in self._started.items() if place in waiting}
        for place, job in waiting.items():
            if place in self._seen and time.monotonic() >= self._started.get(place, 0.0):
                self._started[place] = float("inf") if self._start(job) else time.monotonic() + RETRY_SECONDS
        self._seen = set(waiting)

    def _start(self, job: Job) -> bool:
        name = job.id if job.claim == 0 else f"{job.id}-{job.claim}"
        command = [word.replace(JOB, job.id).replace(NAME, name) for word in self._command]
        try:
            subprocess.run(command, check=True, timeout=COMMAND_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            logger.warning("No worker was started for %s (%s); again in %.0f s: %s",
                           job.id, error, RETRY_SECONDS, shlex.join(command))  # fmt: skip
            return False
        logger.info("A worker for %s: %s", job.id, shlex.join(command))
        return True


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
