"""Runs that are killed at chosen moments, each in a process forked from one that has imported everything.

A process of its own, started by the tests: `python -m finetune_assets_tests.pipeline.stages.killed_runs`. A line of
JSON is a request: the task, the folder of its outputs, and runs of a region, stages and the moment to die at. For each
run a line of JSON comes back: whether it was killed, and how many moments of the kind there were.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_assets.provider.client import HOOKS
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import Project, failures

SLOW = ("bpe_openai", "cleanlab", "matplotlib.figure", "py3langid", "scipy.stats", "sklearn.linear_model")
"""What stages import when they need it, here once for all runs."""
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

    def arm(self, project: Project) -> None:
        """Watch for the moments."""
        if self.kind == "event":
            store = project.instance.handle_new_event
            project.instance.handle_new_event = lambda event, **more: (self(), store(event, **more))[1]
        else:
            HOOKS.setdefault("request" if self.kind == "sent" else "response", []).append(self)


def run(task: Task, root: Path, region: str, stages: Sequence[str], fate: Fate) -> dict[str, Any]:
    """Run stages in a child; report how it ended."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        project = Project(task, root)
        fate.arm(project)
        done = project.run(*stages, region=region)
        os.write(writing, json.dumps({"failures": failures(done), "met": fate.met}).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        report = said.read()
    _, status = os.waitpid(child, 0)
    return {"killed": os.WIFSIGNALED(status), **(json.loads(report) if report else {})}


def main() -> None:
    """Do what the requests ask for."""
    for name in SLOW:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        task = Task.model_validate(request["task"])
        for region, stages, kind, n in request["runs"]:
            print(json.dumps(run(task, Path(request["root"]), region, stages, Fate(kind, n))), flush=True)


if __name__ == "__main__":
    main()
