from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from finetune_assets.processes import StartError, _await_answer, _running, dagster_home, free_port

_STUBBORN_FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
sleeper = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", sleeper])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_whatever_a_process_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_assets.processes._GRACE_SECONDS", 0.5)
    log = tmp_path / "logs" / "family.log"
    with _running([sys.executable, "-c", _STUBBORN_FAMILY], log) as process:
        while not log.read_text().strip():
            time.sleep(0.05)
        child = int(log.read_text())
    assert process.returncode is not None
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_dies_at_the_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "dead.log"
    command = [sys.executable, "-c", "import sys; print('no such model'); sys.exit(3)"]
    with _running(command, log) as process, pytest.raises(StartError, match="no such model"):
        _await_answer(process, "http://127.0.0.1:9/", log, seconds=20)


def test_a_taken_port_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port


def test_dagsters_home_is_made_once_with_our_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    settings = dagster_home() / "dagster.yaml"
    assert "telemetry: {enabled: false}" in settings.read_text()
    settings.write_text("telemetry: {enabled: true}\n")
    dagster_home()
    assert settings.read_text() == "telemetry: {enabled: true}\n"


def test_importing_the_package_is_light() -> None:
    heavy = "{'torch', 'dagster', 'pandas', 'transformers'}"
    code = f"import sys, finetune_assets.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
