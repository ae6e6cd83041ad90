"""One process for each folder: found and used, refused in a sentence, and ended by whoever uses it last."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from finetune_assets.errors import AddressInUseError
from finetune_assets.processes.shared import ProcessError, Service, StartError, joined
from finetune_assets.running import Identity, free_port, running
from finetune_assets_tests.patience import PATIENCE_S

_SERVE = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
_USER = """
import sys
from pathlib import Path
sys.argv[1:] = ["ui"]
from finetune_assets_tests.processes.test_shared import service
from finetune_assets.processes.shared import joined
with joined(service(Path({home!r})), lambda words: print(words, flush=True)) as found:
    print("joined", found.running.process.pid, flush=True)
    sys.stdin.read()
"""


def service(home: Path, **changes: Any) -> Service:
    """A web server in the place of Dagster."""
    fields: dict[str, Any] = {
        "name": "the page",
        "home": home,
        "log": home / "logs" / "page.log",
        "preferred_port": free_port(41000),
        "option": "--port",
        "health": "/",
        "command": lambda port: [*_SERVE, str(port)],
        "settings": {"folder": "here"},
    }
    return Service(**(fields | changes))


@contextmanager
def listener() -> Iterator[int]:
    """A port that this test holds."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@contextmanager
def user(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another command that uses the service until its input ends."""
    command = [sys.executable, "-c", _USER.format(home=str(home))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        if process.poll() is None:
            process.communicate("", timeout=PATIENCE_S)


def pid_that_was_joined(process: subprocess.Popen[str]) -> int:
    """Wait until the other command has it, and return which process that is."""
    assert process.stdout is not None
    return next(int(line.split()[1]) for line in process.stdout if line.startswith("joined"))


def test_what_is_started_is_recorded_and_ends_with_its_only_user(tmp_path: Path) -> None:
    with joined(service(tmp_path), print) as found:
        assert running(tmp_path) == found.running and found.others() == []
        with joined(service(tmp_path), print) as again:
            assert again.running == found.running
    assert running(tmp_path) is None and not found.running.process.alive


def test_commands_that_come_at_once_share_one_and_the_last_ends_it(tmp_path: Path) -> None:
    said: list[str] = []
    with user(tmp_path) as first, user(tmp_path) as second:
        pids = {pid_that_was_joined(process) for process in (first, second)}
        with joined(service(tmp_path), said.append) as found:
            assert pids == {found.running.process.pid}
            assert sorted(found.others()) == sorted(f"`ui` (process {process.pid})" for process in (first, second))
        assert found.running.process.alive
        assert [words for words in said if f"The page goes on at {found.url}, used by `ui`" in words]
    assert not found.running.process.alive


def test_a_killed_user_is_waited_for_by_nobody(tmp_path: Path) -> None:
    with user(tmp_path) as killed:
        pid_that_was_joined(killed)
        with joined(service(tmp_path), print) as found:
            killed.kill()
            killed.wait()
            assert found.others() == []
    assert not found.running.process.alive


def test_one_that_a_person_started_is_used_and_left_alone(tmp_path: Path) -> None:
    own = service(tmp_path)
    with subprocess.Popen(own.command(own.preferred_port), stderr=subprocess.DEVNULL) as by_hand:
        from finetune_assets.running import Running

        try:
            Running(Identity.of(by_hand.pid), "http://127.0.0.1:1", own.settings).write(tmp_path)
            with joined(own, print) as found:
                assert found.running.process.pid == by_hand.pid
            assert by_hand.poll() is None
        finally:
            by_hand.kill()


def test_another_port_or_other_settings_than_what_runs_are_refused(tmp_path: Path) -> None:
    with joined(service(tmp_path), print) as found:
        where = f"The page of this folder runs already, at {found.url} \\(process {found.running.process.pid}\\)"
        with pytest.raises(ProcessError, match=f"{where}, and not on port 1: leave --port out"):
            joined(service(tmp_path), print, 1).__enter__()
        with pytest.raises(ProcessError, match=f"{where}, with the folder here, here it is there: stop it first"):
            joined(service(tmp_path, settings={"folder": "there"}), print).__enter__()
        assert found.running.process.alive


def test_a_stated_port_that_is_taken_is_refused_at_once_with_who_holds_it(tmp_path: Path) -> None:
    with listener() as port, pytest.raises(AddressInUseError) as caught:
        joined(service(tmp_path), print, port).__enter__()
    assert f"port {port} is held by process {os.getpid()} (" in str(caught.value)
    assert str(caught.value).endswith("stop that, or choose another with --port")


def test_a_usual_port_that_is_taken_is_replaced_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with listener() as port, joined(service(tmp_path, preferred_port=port), said.append) as found:
        assert found.running.port != port
        assert said[0].startswith(f"Port {port} is held by process {os.getpid()} (")
        assert said[0].endswith(f": the page takes {found.running.port}.")


def test_one_that_dies_at_the_start_is_told_with_the_end_of_this_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/page.log").write_text("of an earlier start\n")
    command = [sys.executable, "-c", "import sys; print('\\x1b[31mno such model\\x1b[0m'); sys.exit(3)"]
    with pytest.raises(StartError) as caught:
        joined(service(tmp_path, command=lambda _: command), print).__enter__()
    assert str(caught.value) == f"The page ended. End of {tmp_path}/logs/page.log:\nno such model"


def test_an_answer_of_another_server_is_not_taken_for_one_that_died(tmp_path: Path) -> None:
    before = set(psutil.Process().children())

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if set(psutil.Process().children()) - before else 200)
            self.end_headers()

    def command(port: int) -> list[str]:
        other = ThreadingHTTPServer(("127.0.0.1", port), Other)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        return [sys.executable, "-c", "import time; time.sleep(0.1)"]

    with pytest.raises(StartError, match="The page ended"):
        joined(service(tmp_path, command=command), print).__enter__()


def test_one_that_ends_while_it_is_used_is_told_with_its_log(tmp_path: Path) -> None:
    with joined(service(tmp_path), print) as found:
        os.kill(found.running.process.pid, signal.SIGKILL)
        os.waitpid(found.running.process.pid, 0)
        with pytest.raises(StartError, match="The page has ended. End of "):
            found.require_alive()


def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    class PressedError(BaseException):
        pass

    def press(url: str) -> bool:
        raise PressedError(url)

    started: list[int] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PressedError):
        patch.setattr("finetune_assets.processes.shared.answers", press)
        spawn = __import__("finetune_assets.processes.shared", fromlist=["spawn"]).spawn
        patch.setattr(
            "finetune_assets.processes.shared.spawn",
            lambda *arguments: [process := spawn(*arguments), started.append(process.pid)][0],
        )
        joined(service(tmp_path), print).__enter__()
    assert running(tmp_path) is None
    assert not Identity(started[0], 0).alive
