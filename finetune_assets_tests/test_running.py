"""A folder's record, and who holds a port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import AddressInUseError
from finetune_assets.running import (
    FILE,
    Identity,
    Running,
    announced,
    free_port,
    holder_in_words,
    home_id,
    is_free,
    require_free,
    running,
    server_at,
)
from finetune_assets_tests.server_process import ServerProcess


def test_a_record_is_believed_while_its_process_runs(tmp_path: Path) -> None:
    with announced(tmp_path, "http://127.0.0.1:3000", {"key": "file"}):
        found = running(tmp_path)
        assert found and (found.process.pid, found.port, found.settings["key"]) == (os.getpid(), 3000, "file")
    assert running(tmp_path) is None


def test_a_record_of_a_dead_process_or_of_another_with_its_number_is_not_believed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        Running(Identity.of(process.pid), "http://h:1").write(tmp_path)
        assert running(tmp_path)
        process.kill()
    assert running(tmp_path) is None
    Running(Identity(os.getpid(), Identity.of().created - 60), "http://h:1").write(tmp_path)
    assert running(tmp_path) is None


@given(said=st.one_of(st.binary(max_size=40), st.just(b'{"pid": "x"}'), st.just(b"[]"), st.just(b'{"pid": 1}')))
def test_whatever_stands_in_a_record_stops_nobody(said: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / FILE).write_bytes(said)
    assert running(home) is None


def test_a_taken_port_is_left_alone_and_its_holder_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port) and free_port(port) != port
        with pytest.raises(AddressInUseError, match=rf"port {port} is held by process {os.getpid()} \(.*with --port$"):
            require_free(port, "--port")


def test_a_server_is_known_by_its_port_and_its_folder_by_no_path(server: ServerProcess) -> None:
    found = running(server.home)
    assert found and f"{found.url}/v1" == server.base_url and found.settings["key"] == "environment"
    assert server_at(found.port) == server.home
    assert holder_in_words(found.port) == f"the fine-tuning server of {server.home} (process {server.process.pid})"
    told = httpx2.get(f"{found.url}/healthz").json()["home"]
    assert told == home_id(server.home) and re.fullmatch("[0-9a-f]{16}", told)
