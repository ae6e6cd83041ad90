"""Whatever a process started ends with it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from finetune_assets.processes import family
from finetune_assets.running import Identity

_STUBBORN_FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
sleeper = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", sleeper])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_whatever_a_process_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_assets.processes.family._GRACE_SECONDS", 0.5)
    log = tmp_path / "logs" / "family.log"
    process = family.spawn([sys.executable, "-c", _STUBBORN_FAMILY], log, {})
    while not log.read_text().strip():
        time.sleep(0.05)
    child = Identity.of(int(log.read_text()))
    family.stop(Identity.of(process.pid))
    assert process.wait(5) != 0
    assert not child.alive


def test_a_process_that_has_ended_is_stopped_without_a_word(tmp_path: Path) -> None:
    process = family.spawn([sys.executable, "-c", ""], tmp_path / "log", {})
    identity = Identity(process.pid, psutil.Process(process.pid).create_time())
    process.wait(20)
    family.stop(identity)
    assert not identity.alive and Identity.of().pid == os.getpid()


def test_what_a_script_started_in_the_background_starts_can_be_interrupted(tmp_path: Path) -> None:
    patient = "import time; print(1, flush=True); time.sleep(60)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = family.spawn([sys.executable, "-c", patient], tmp_path / "log", {})
        while not (tmp_path / "log").read_text():
            time.sleep(0.05)
        family.stop(Identity.of(process.pid))
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.wait(5) == -signal.SIGINT
