"""A server with pictures and pitfalls."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

from finetune_assets.dataset.web_images import MAX_BYTES
from finetune_assets_tests.server.networks import picture

HOST = "images.test"


def png() -> bytes:
    buffer = io.BytesIO()
    picture("red").save(buffer, "PNG")
    return buffer.getvalue()


class Pictures(BaseHTTPRequestHandler):
    """Sends a picture, or what else the path asks for."""

    protocol_version = "HTTP/1.1"

    asked: ClassVar[list[str]] = []
    """The paths of all requests."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name, _, rest = self.path.strip("/").partition("/")
        if name == "to":
            self._answer(302, b"", Location=rest)
        elif name == "loop":
            self._answer(302, b"", Location=f"/loop/{int(rest or 0) + 1}")
        elif name == "bytes":
            self._answer(200, png(), **{"Content-Type": "binary/octet-stream"})
        elif name == "page":
            self._answer(200, b"<html>", **{"Content-Type": "text/html"})
        elif name == "none":
            self._answer(404, b"")
        elif name == "large":
            self._answer(200, b"x" * (MAX_BYTES + 1), **{"Content-Type": "image/png"})
        elif name == "slow":
            self._drip()
        else:
            self._answer(200, png(), **{"Content-Type": "image/png; charset=x"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the client may have heard enough
            self.wfile.write(body)

    def _drip(self) -> None:
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:  # until the client hangs up
                self.wfile.write(b"X-Slow: 1\r\n")
                time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args
