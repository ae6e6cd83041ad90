"""A server whose end comes when a test says, over real HTTP: a router sees it die at each point of an answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from finetune_assets.running import listen
from finetune_assets.server.routing.replicas import Replicas
from finetune_assets.server.routing.router import RouterServer
from finetune_assets_tests.patience import PATIENCE_S, wait_until


class ScriptedServer(ThreadingHTTPServer):
    """Says in each answer who it is and what it was sent, or does to a request what `manner` says.

    `dies` takes a request and ends the connection; `dies halfway` does so in the middle of the answer, `dies in
    stream` after the first event; `short` is a refusal with the status 503; `waits` until `go`.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.manner = ""
        self.go = threading.Event()
        self.asked: list[dict[str, Any]] = []
        """The requests that it has got, but for looks at its health."""
        self.silent = False
        """Whether it says nothing about its health either, as when its machine is gone."""
        self.hung_up = threading.Event()
        """Set when who had asked is gone before the answer."""
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: connections that end are part of it."""


@contextmanager
def scripted_servers(*names: str) -> Iterator[list[ScriptedServer]]:
    servers = [ScriptedServer(name) for name in names]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield servers
    finally:
        for server in servers:
            server.go.set()
            server.shutdown()
            server.server_close()


@contextmanager
def routed(*urls: str) -> Iterator[str]:
    """Run a router over servers; its URL, without a path."""
    with listen("127.0.0.1", 0, backlog=256) as listener:
        router = RouterServer(Replicas(urls))
        thread = threading.Thread(target=router.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: router.started or not thread.is_alive())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            router.should_exit = True
            thread.join(PATIENCE_S)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        if self.path == "/healthz":
            if self.server.silent:
                self.server.go.wait()
            self._send({"status": "ok"})
            return
        body = self._body()
        self.server.asked.append({"method": self.command, "path": self.path, "body": body, "headers": self.headers})
        manners: dict[str, Callable[[], None]] = {
            "dies": self._hang_up, "dies halfway": self._die_halfway, "dies in stream": self._die_in_stream,
            "short": lambda: self._send({"error": {"message": "no memory", "code": "out_of_memory"}}, 503),
            "waits": self._wait,
        }  # fmt: skip
        manners.get(self.server.manner, self._answer)()

    def do_POST(self) -> None:
        self.do_GET()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self) -> None:
        self._send({"server": self.server.name, "path": self.path})

    def _send(self, told: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        self.wfile.write(content)

    def _wait(self) -> None:
        self.connection.settimeout(0.01)
        while not self.server.go.is_set():
            with suppress(TimeoutError):
                if not self.connection.recv(1, socket.MSG_PEEK):
                    self.server.hung_up.set()
                    return
        self.connection.settimeout(None)
        self._answer()

    def _die_halfway(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b'{"server": ')
        self._hang_up()

    def _die_in_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        event = b'data: {"n": 1}\n\n'
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Keep quiet."""
