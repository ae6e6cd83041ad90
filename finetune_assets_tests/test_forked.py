"""What is forked for a test runs as a program of its own would."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from finetune_assets_tests.forked import Forked
from finetune_assets_tests.patience import PATIENCE_S

TOLD = "import os, sys; print(sys.argv[1:], dict(os.environ), flush=True); print('why', file=sys.stderr); sys.exit(3)"
WAITS = "import signal; print('waits', flush=True); signal.pause()"
CHILD = """
import multiprocessing, os
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetune_assets.server.jobs.loaded"])
    child = context.Process(target=os._exit, args=(7,))
    child.start()
    child.join()
    print(child.exitcode, flush=True)
"""


def started(folder: Path, script: str, *arguments: str) -> Forked:
    with (folder / "stderr").open("wb") as errors:
        return Forked(script, arguments, {"ONLY": "this"}, errors.fileno())


def test_it_has_its_arguments_its_variables_and_its_exit_code(tmp_path: Path) -> None:
    program = started(tmp_path, TOLD, "a b", "ü")
    assert program.wait(PATIENCE_S) == program.returncode == 3
    assert program.stdout.read() == "['a b', 'ü'] {'ONLY': 'this'}\n"
    assert (tmp_path / "stderr").read_text() == "why\n"


def test_it_ends_by_signals_and_leaves_nothing(tmp_path: Path) -> None:
    program = started(tmp_path, WAITS)
    assert program.stdout.readline() == "waits\n"
    children = psutil.Process(program.pid).children(recursive=True)
    assert program.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.01)
    program.terminate()
    assert program.wait(PATIENCE_S) == -signal.SIGTERM
    program.kill()  # of what has ended: nothing
    assert psutil.wait_procs(children, PATIENCE_S)[1] == []


def test_jobs_of_it_are_forked_too(tmp_path: Path) -> None:
    program = started(tmp_path, CHILD)
    assert program.wait(PATIENCE_S) == 0
    assert program.stdout.read() == "7\n"
