"""Connections that say nothing: they are ended in time, and the oldest of them when there are too many.

uvicorn ends a connection that is idle after a request, but waits without end for the first, and for headers that never
end; with enough such clients, who need no key, no descriptor is left for anybody.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 20.0
"""How long a connection may take until the headers of its next request are complete, once it is made or has begun."""
MAX_HEADER_BYTES = 64 << 10
MAX_CONNECTIONS = 4096
_KEPT_DESCRIPTORS = 200
"""What the server needs for files, its database and its processes."""
_WANTED_DESCRIPTORS = 8192

_Protocol: Any = AutoHTTPProtocol


def want_descriptors() -> None:
    """Ask the system for as many descriptors as this user may have, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _WANTED_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def protocol(patience: float = HEADER_SECONDS) -> type[asyncio.Protocol]:
    """Make the class of the connections of one server, which uvicorn builds one of for each."""
    silent: dict[Connection, None] = {}

    class OfThisServer(Connection):
        _silent, _patience = silent, patience

    return OfThisServer


class Connection(_Protocol):
    """uvicorn's own, with a deadline for headers. Those without a request under way are kept by age."""

    _silent: dict[Connection, None]
    _patience: float
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; where there are too many, the longest silent makes room."""
        super().connection_made(transport)
        if len(self.connections) > _limit():
            if not self._silent:
                transport.abort()
                return
            next(iter(self._silent)).transport.abort()
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait on if that were no complete headers."""
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()
        self._await_headers()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; where it was memory that was lacking for it, say that."""
        error = sys.exc_info()[1]
        if error is None or not isinstance(error.__context__, MemoryError):
            super().send_400_response(msg)
            return
        self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 10\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Count the connection as silent again; uvicorn itself ends it after a while."""
        super().on_response_complete()
        if not self._is_answering():
            self._silent[self] = None

    def _await_headers(self) -> None:
        self._silent.setdefault(self, None)
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._patience, self.transport.abort)

    def _stop_waiting(self) -> None:
        self._silent.pop(self, None)
        self._header_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(1, soft - _KEPT_DESCRIPTORS))
