"""Demos and UIs of one folder, started at once as people start them. Minutes long, so only where it is asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_assets.running import running
from finetune_assets_tests.demo.homes import write_home
from finetune_assets_tests.long_tests import long

pytestmark = [
    pytest.mark.xdist_group("dagster"),
    pytest.mark.timeout(1200),
    long,
]


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in the folder."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "FINETUNE_ASSETS_DATA")}
    return subprocess.Popen(
        [sys.executable, "-m", "finetune_assets.cli", *arguments],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read what a command says until a line with these words."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it ended without {words!r}:\n{said}")


def test_two_demos_and_a_ui_share_one_dagster_and_one_server_and_the_last_ends_both(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "first", "second")
    ui = start(home, "ui")
    demos = [start(home, "demo", "--task", task) for task in ("first", "second")]
    read_until(ui, "Ctrl-C stops both.")
    second = start(home, "ui")
    said = second.communicate(timeout=300)[0]
    assert (second.returncode, f"is open already: `ui` (process {ui.pid})" in said) == (0, True), said
    served = {name: running(home / "var" / name) for name in ("dagster", "server")}
    said = [demo.communicate(timeout=900)[0] for demo in demos]
    assert [demo.returncode for demo in demos] == [0, 0], "\n".join(said)
    assert {name: running(home / "var" / name) for name in ("dagster", "server")} == served
    ui.send_signal(signal.SIGINT)
    said = ui.communicate(timeout=120)[0]
    assert (ui.returncode, "Stopped. Nothing is lost" in said) == (130, True), said
    assert running(home / "var/dagster") is None and running(home / "var/server") is None
    for task in ("first", "second"):
        calibrator = json.loads((home / f"data/outputs/{task}/calibrator/all.json").read_text())
        assert calibrator["task_fingerprint"]


def test_a_demo_that_is_stopped_says_what_is_kept_and_the_same_command_goes_on(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "first")
    demo = start(home, "demo", "--task", "first")
    read_until(demo, "filtered_qa")
    demo.send_signal(signal.SIGTERM)
    said = demo.communicate(timeout=120)[0]
    assert demo.returncode == 130 and "Stopped. Nothing is lost (all: " in said, said
    assert "To go on, run the same command: " in said
    assert running(home / "var/dagster") is None and running(home / "var/server") is None
    again = start(home, "demo", "--task", "first")
    said = again.communicate(timeout=900)[0]
    assert again.returncode == 0, said
