"""Connections: taken as long as there are descriptors for them, and ended in time where they say nothing.

uvicorn ends a connection that is idle after a request, but waits without end for the first, and for headers that never
end; with enough such clients, who need no key, no descriptor is left for anybody. And where none is left,
asyncio writes two thousand errors a second, and uvloop, once its spare one is gone too, tries to take the next
connection again and again without a pause.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 20.0
"""How long a connection may take until the headers of its next request are complete, once it is made or has begun."""
MAX_HEADER_BYTES = 64 << 10
MAX_CONNECTIONS = 4096
_KEPT_DESCRIPTORS = 200
"""What the server needs for files, its database and its processes."""
_WANTED_DESCRIPTORS = 8192
REST_SECONDS = 1.0
"""How long no connection is taken once there was no descriptor for one; those that are made meanwhile wait."""
_LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger(__name__)

_Protocol: Any = AutoHTTPProtocol


def want_descriptors() -> None:
    """Ask the system for as many descriptors as this user may have, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _WANTED_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Server(uvicorn.Server):
    """uvicorn's own, with a pause where there is no descriptor for the next connection."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, and listen."""
        await super().startup(sockets=[])
        kind: Any = self.config.http_protocol_class
        make = partial(kind, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        listening: list[Any] = [Listening(listener, make) for listener in sockets or ()]
        self.servers += listening


class Listening(asyncio.AbstractServer):
    """Takes the connections of a socket that listens, on the loop that runs.

    Args:
        listener: the socket.
        make: makes the protocol of one connection.
        rest_seconds: how long to pause where a descriptor is lacking.
    """

    def __init__(
        self, listener: socket.socket, make: Callable[[], asyncio.Protocol], rest_seconds: float = REST_SECONDS
    ) -> None:
        self._listener, self._make, self._rest_seconds = listener, make, rest_seconds
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._loop.add_reader(listener, self._take)

    def close(self) -> None:
        """Take no more of them."""
        self._loop.remove_reader(self._listener)
        if self._resting is not None:
            self._resting.cancel()

    async def wait_closed(self) -> None:
        """Wait for those that were taken last."""
        await asyncio.gather(*self._beginning)

    def _take(self) -> None:
        """Take one; there may be too many now, and what makes room for the next is done between two of them."""
        try:
            connection, _address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _LACKING:
                raise
            self._rest(error)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._begin(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _rest(self, error: OSError) -> None:
        _log.warning("No connection is taken for %g s: %s", self._rest_seconds, error.strerror)
        self._loop.remove_reader(self._listener)
        self._resting = self._loop.call_later(self._rest_seconds, self._loop.add_reader, self._listener, self._take)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, connection)
        except OSError:  # whoever made it has gone
            connection.close()


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
            oldest = next(iter(self._silent))
            oldest._stop_waiting()
            oldest.transport.abort()
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
