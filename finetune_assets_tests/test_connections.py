"""Silent and slow connections, which need no key: they end, and they keep nobody out."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import psutil
import pytest
import uvicorn

from finetune_assets.connections import MAX_HEADER_BYTES, protocol
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server_process import ServerProcess

PATIENCE = 0.5


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * PATIENCE)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A server that waits for headers for `PATIENCE` seconds."""
    config = uvicorn.Config(app, http=protocol(PATIENCE), lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


def is_ended(connection: socket.socket) -> bool:
    connection.settimeout(PATIENCE_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_headers_that_never_end_are_not_waited_for(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        assert is_ended(connection)


def test_a_byte_now_and_then_buys_no_time(address: tuple[str, int]) -> None:
    began = time.monotonic()
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):
            while time.monotonic() < began + PATIENCE_S:
                connection.sendall(b"a: b\r\n")
                time.sleep(PATIENCE / 10)


def test_headers_of_any_length_are_not_read(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection, pytest.raises(OSError, match=r"reset|pipe"):
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (100 * MAX_HEADER_BYTES))


def test_an_answer_may_take_longer_and_the_connection_stays(address: tuple[str, int]) -> None:
    with httpx2.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=PATIENCE_S) as client:
        assert client.get("/slow").text == client.get("/").text == "ok"


@contextmanager
def descriptors(process: psutil.Process, number: int) -> Iterator[None]:
    before = process.rlimit(resource.RLIMIT_NOFILE)
    process.rlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        process.rlimit(resource.RLIMIT_NOFILE, before)


def test_more_silent_connections_than_descriptors_keep_nobody_out(server: ServerProcess) -> None:
    address = httpx2.URL(server.base_url)
    process = psutil.Process(server.process.pid)
    with descriptors(process, 300), ExitStack() as silent:
        for _ in range(600):
            silent.enter_context(socket.create_connection((address.host, address.port or 80)))
        assert server.client().models.list().data
        assert process.num_fds() < 300
    wait_until(lambda: process.num_fds() < 200)
