"""Silent and slow connections, which need no key, end and keep nobody out; for want of descriptors others wait."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import uvicorn
import uvloop

from finetune_assets.connections import MAX_HEADER_BYTES, Listening, Server, protocol
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
    server = Server(config)
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


class Counting(socket.socket):
    """A socket that listens, and counts for how many connections it had no descriptor."""

    refused = 0

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            self.refused += error.errno == errno.EMFILE
            raise


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(b"welcome")
        transport.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_for_want_of_descriptors_connections_wait_and_the_loop_rests(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def serve() -> None:
        with Counting() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listening = Listening(listener, Greeting, rest_seconds=PATIENCE)
            with no_descriptors_left():
                client.connect(listener.getsockname())
                while not listener.refused:
                    await asyncio.sleep(0)
                for _ in range(500):  # a loop that tries again at once does so in each of its turns
                    await asyncio.sleep(0)
                assert listener.refused < 50
            assert await asyncio.to_thread(client.recv, 100) == b"welcome"
            listening.close()
            await listening.wait_closed()

    loop = new_loop()
    loop.run_until_complete(asyncio.to_thread(int))  # its threads need descriptors when they begin
    loop.run_until_complete(serve())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Let this process have none but those that are open, and fill the gaps between them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = max(int(name.name) for name in Path("/proc/self/fd").iterdir())
    with ExitStack() as filled:
        filled.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, before[1]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                filled.callback(os.close, os.dup(0))
        yield
