"""A vLLM that this server starts, with a small server in its place: it is watched, and never outlives its starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation import vllm_process
from finetune_assets.server.generation.vllm_process import COMMAND, VllmMissingError, VllmProcess, vllm_command
from finetune_assets_tests.patience import wait_until
from finetune_assets_tests.server.generation import vllm_stand_in

BASE = BaseModel("tiny", "/a/folder", vision=False)
STARTER = """
import sys, time
from pathlib import Path
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.vllm_process import VllmProcess
process = VllmProcess(BaseModel("tiny", "/a/folder", vision=False), [sys.argv[1]], "float32", Path(sys.argv[2]))
process.start()
while process.connection is None:
    time.sleep(0.05)
print(process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmProcess]:
    monkeypatch.setenv("VLLM_STAND_IN", "starts")
    made = VllmProcess(BASE, [str(vllm_stand_in.write(tmp_path))], "float32", tmp_path / "vllm.log")
    yield made
    made.stop()


def session_of(pid: int) -> list[psutil.Process]:
    """All processes that live in the session which a process leads."""
    found = []
    for one in psutil.process_iter(["status"]):
        try:
            if os.getsid(one.pid) == pid and one.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(one)
        except ProcessLookupError:  # it has just ended
            continue
    return found


def answering(process: VllmProcess) -> int:
    wait_until(lambda: process.connection)
    assert process.pid
    return process.pid


def test_what_follows_the_python_is_for_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = str(vllm_stand_in.write(tmp_path))
    monkeypatch.setenv(COMMAND, f"{python} --enforce-eager")
    assert vllm_command() == [python, "--enforce-eager"]


@pytest.mark.parametrize("named", ["", "/no/such/python", sys.executable])
def test_a_missing_vllm_is_refused_with_the_remedy(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, named)
    with pytest.raises(VllmMissingError, match=r"pip install vllm.*FINETUNE_ASSETS_VLLM=ENV/bin/python"):
        vllm_command()


def test_the_key_is_on_no_command_line_and_the_servers_own_keys_are_kept_back(
    process: VllmProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "sk-ours")
    process.start()
    found = session_of(answering(process))
    assert len(found) == 3
    keys = {one.environ()["VLLM_API_KEY"] for one in found}
    assert not any("FINETUNE_ASSETS_API_KEY" in one.environ() for one in found)
    assert not any(key in word for key in keys for one in found for word in one.cmdline())


@pytest.mark.parametrize("which", [0, 1], ids=["its guard", "vLLM itself"])
def test_one_that_is_killed_is_started_again_and_leaves_nothing_behind(process: VllmProcess, which: int) -> None:
    process.start()
    first = answering(process)
    before = sorted(session_of(first), key=lambda one: one.create_time())
    before[which].kill()
    wait_until(lambda: process.pid not in (first, None) and process.connection)
    assert session_of(first) == []
    assert process.refused is None


def test_stopping_ends_all_that_it_started(process: VllmProcess) -> None:
    process.start()
    pid = answering(process)
    process.stop()
    assert session_of(pid) == []
    assert process.connection is None


def test_nothing_survives_a_starter_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_STAND_IN", "starts")
    python = vllm_stand_in.write(tmp_path)
    command = [sys.executable, "-c", STARTER, str(python), str(tmp_path / "vllm.log")]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    with starter.stdout:
        pid = int(starter.stdout.readline())
        assert len(session_of(pid)) == 3
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    wait_until(lambda: not session_of(pid))


def test_one_that_ends_again_and_again_is_given_up_with_the_place_of_its_last_words(
    process: VllmProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_STAND_IN", "ends")
    monkeypatch.setattr(vllm_process, "_RETRY_SECONDS", 0.0)
    process.start()
    wait_until(lambda: process.refused)
    assert process.refused == f"vLLM ended 3 times before it answered; its last words are in {tmp_path / 'vllm.log'}"
    assert "there is no kernel for this" in (tmp_path / "vllm.log").read_text()
