"""Runs that are killed at chosen moments, each in a process forked from the one that does those that are not.

A process of its own, started by the tests: `python -m finetune_assets_tests.pipeline.stages.killed_runs`. A line of
JSON is a request: the task, the folder of its outputs, and runs of a region, stages and the moment to die at. For each
run a line of JSON comes back: whether it was killed, and how many moments of the kind there were.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_assets.provider.client import HOOKS
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import Project, failures

MOMENTS = ("event", "sent", "answered")
"""Before a Dagster event is stored; before a request is sent; after an answer came, before anything is made of it."""


class Fate:
    """Kills this process at the n-th moment of a kind; 0 counts them alone."""

    def __init__(self, kind: str, n: int) -> None:
        self.kind, self.n, self.met = kind, n, 0

    def __call__(self, *_: Any) -> None:
        self.met += 1
        if self.met == self.n:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def watching(self, project: Project) -> Iterator[None]:
        """Watch for the moments."""
        store = project.instance.handle_new_event
        hooks = HOOKS.setdefault("request" if self.kind == "sent" else "response", [])
        if self.kind == "event":
            project.instance.handle_new_event = lambda event, **more: (self(), store(event, **more))[1]
        else:
            hooks.append(self)
        yield
        if self.kind != "event":
            hooks.remove(self)


def run(task: Task, root: Path, region: str, stages: Sequence[str], fate: Fate) -> dict[str, Any]:
    """Run stages; report how it ended."""
    if fate.n and (child := os.fork()):
        _, status = os.waitpid(child, 0)
        return {"killed": os.WIFSIGNALED(status)}
    project = Project(task, root)
    with fate.watching(project):
        done = project.run(*stages, region=region)
    if fate.n:
        os._exit(0)  # it met no such moment
    return {"killed": False, "failures": failures(done), "met": fate.met}


def main() -> None:
    """Do what the requests ask for."""
    for line in sys.stdin:
        request = json.loads(line)
        task = Task.model_validate(request["task"])
        for region, stages, kind, n in request["runs"]:
            print(json.dumps(run(task, Path(request["root"]), region, stages, Fate(kind, n))), flush=True)


if __name__ == "__main__":
    main()
