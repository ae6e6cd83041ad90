"""A line between a client and a server that fails often, in every way that lines and servers do."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("429", "500", "502", "503", "lost before", "lost after", "silent after", "cut", "cut to fit", "slow")
_ERROR = b'{"error": {"message": "a fault", "type": "x", "param": null, "code": null}}'
_NOT_FORWARDED = {"connection", "content-length", "transfer-encoding", "host", "accept-encoding"}


class FaultyLine(ThreadingHTTPServer):
    """Stands before the server of `base_url`, with a fault on a `share` of the requests.

    `lost after` and `silent after` let the server act and then drop its answer, at once or after `silence_s`; `cut`
    sends half of it, and `cut to fit` half of it as if that were all.
    """

    daemon_threads = True

    def __init__(self, base_url: str, share: float, seed: int, silence_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(base_url).netloc
        self.base_url = f"http://127.0.0.1:{self.server_port}{urlsplit(base_url).path}"
        self.silence_s = silence_s
        self.met: Counter[str] = Counter()
        """How often each fault befell a request."""
        self._share = share
        self._rng = random.Random(seed)
        self._lock = threading.Lock()

    def fault(self) -> str:
        """Draw what befalls the next request: one of `FAULTS`, or "none"."""
        with self._lock:
            fault = self._rng.choice(FAULTS) if self._rng.random() < self._share else "none"
            self.met[fault] += 1
        return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: clients that hang up are part of it."""


@contextmanager
def faulty_line(base_url: str, share: float = 0.3, seed: int = 0, silence_s: float = 3.0) -> Iterator[FaultyLine]:
    """Serve a faulty line on a free port."""
    line = FaultyLine(base_url, share, seed, silence_s)
    threading.Thread(target=line.serve_forever, daemon=True).start()
    try:
        yield line
    finally:
        line.shutdown()
        line.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyLine  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault.isdigit():
            self._send(int(fault), [("Content-Type", "application/json"), ("Retry-After", "0.2")], _ERROR)
        elif fault == "lost before":
            self._hang_up()
        else:
            self._answer(fault, *self._ask(body))

    def do_POST(self) -> None:
        self.do_GET()

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_FORWARDED}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _NOT_FORWARDED]
        return answer.status, kept, answer.read()

    def _answer(self, fault: str, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        if fault in ("lost after", "silent after"):
            time.sleep(self.server.silence_s if fault == "silent after" else 0)
            self._hang_up()
            return
        if fault == "slow":
            time.sleep(0.3)
        sent = content[: len(content) // 2] if fault.startswith("cut") else content
        self._send(status, headers, sent, len(content) if fault == "cut" else len(sent))

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        if length is not None and length > len(content):
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Keep quiet."""
