"""What a client takes from a provider: whole answers of limited size, its own, without our key in them.

A provider may be broken or hostile. Whatever it sends is looked at here, before the SDK reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import httpx2

MAX_ANSWER_BYTES = 64 << 20
"""Of one answer, unpacked."""
MAX_FILE_BYTES = 2 << 30
"""Of the content of a file, packed as it comes."""
MAX_VALUES = 4_000_000
"""Of one answer, about: each takes a hundred times as much memory once it is read as it has bytes."""
BODY_SECONDS = 600.0
"""How long the body of one answer may take to come. Its pauses are limited by the client; many short ones are not."""
REDIRECTED_TO = "x-redirected-to"
"""Header that we put into an answer that sends us to somebody else."""
_PACKED = frozenset({"", "identity", "gzip", "deflate"})
"""Ways to pack an answer of which a little never becomes very much at once."""
_MASK = b"[the API key]"
_SHORTEST_KEY = 8
"""Characters of a key that is a secret; shorter ones are put where a server wants none, as `none` or `x`, and stand in
answers by chance."""


def ask_plainly(request: httpx2.Request) -> None:
    """Before a request is sent: ask for an answer that is not packed."""
    request.headers["accept-encoding"] = "identity"


def check(response: httpx2.Response) -> None:
    """Look at an answer whose body has not been read, and read it, unless it is a stream or a file.

    Raises:
        RemoteProtocolError: it is longer than an answer is, takes too long to come, is packed in a way that nobody
            asked for, or cut off.
    """
    if _begin(response):
        arriving = _Arriving(response)
        _take(response, [arriving.counted(chunk) for chunk in response.iter_bytes()])


async def check_later(response: httpx2.Response) -> None:
    """As `check`, of an asynchronous client."""
    if _begin(response):
        arriving = _Arriving(response)
        _take(response, [arriving.counted(chunk) async for chunk in response.aiter_bytes()])


def _begin(response: httpx2.Response) -> bool:
    """Stay with this provider, and say whether the body is to be read here."""
    if response.has_redirect_location:
        target = response.url.join(response.headers["location"])
        if _origin(target) != _origin(response.url):
            # The SDK would repeat the request there, prompt and all.
            del response.headers["location"]
            response.headers[REDIRECTED_TO] = "{}://{}:{}".format(*_origin(target))
    if response.headers.get("content-encoding", "").strip().lower() not in _PACKED:
        packed = response.headers["content-encoding"][:40]
        raise httpx2.RemoteProtocolError(f"the answer is packed as {packed!r}, unasked", request=response.request)
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    if response.is_error or not (is_stream or response.request.url.path.endswith("/content")):
        return True
    response.stream = _Limited(response, response.stream)
    return False


def _take(response: httpx2.Response, chunks: list[bytes]) -> None:
    content = b"".join(chunks)
    kind = response.headers.get("content-type", "")
    keys = [response.request.headers.get(name, "").removeprefix("Bearer ") for name in ("authorization", "api-key")]
    keys = [key for key in keys if len(key) >= _SHORTEST_KEY]
    if kind.startswith("application/json") and not response.request.url.path.endswith("/content"):
        content = _without_spelt(keys, content, _read(response, content))
    for key in keys:
        content = content.replace(key.encode(), _MASK)
    response._content = content


def _read(response: httpx2.Response, content: bytes) -> Any:
    """Read an answer as JSON, which must be whole: a proxy that cuts one may correct its length.

    The SDK would fail on what is left, and not ask again.
    """
    if content.count(b",") > MAX_VALUES:
        message = f"the answer holds more than {MAX_VALUES:,} values and was not read"
        raise httpx2.RemoteProtocolError(message, request=response.request)
    try:
        return json.loads(content)
    except RecursionError:
        message = "the answer is nested deeper than any is"
        raise httpx2.RemoteProtocolError(message, request=response.request) from None
    except ValueError as error:
        raise httpx2.RemoteProtocolError(f"the answer is not whole: {error}", request=response.request) from error


def _without_spelt(keys: list[str], content: bytes, read: Any) -> bytes:
    """Write an answer again in which a key is spelt with escapes of JSON, so that it is found."""
    if b"\\" not in content:
        return content
    plain = json.dumps(read)
    return plain.encode() if any(key in plain for key in keys) else content


class _Arriving:
    """The body of an answer on its way in."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._size = 0
        self._until = time.monotonic() + BODY_SECONDS

    def counted(self, chunk: bytes) -> bytes:
        """Return a chunk that came in time and is not too much."""
        self._size += len(chunk)
        _refuse_more(self._response, self._size, MAX_ANSWER_BYTES)
        if time.monotonic() > self._until:
            message = f"the answer did not come whole within {BODY_SECONDS:g} seconds"
            raise httpx2.RemoteProtocolError(message, request=self._response.request)
        return chunk


def _refuse_more(response: httpx2.Response, total: int, limit: int) -> None:
    if total > limit:
        message = f"the answer is longer than {limit >> 20} MB and was not read further"
        raise httpx2.RemoteProtocolError(message, request=response.request)


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


class _Stream(Protocol):
    def __iter__(self) -> Iterator[bytes]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def close(self) -> None: ...
    async def aclose(self) -> None: ...


class _Limited(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The body of a file or a stream, refused from where it is longer than any is."""

    def __init__(self, response: httpx2.Response, stream: Any) -> None:
        self._response = response
        self._stream: _Stream = stream

    def __iter__(self) -> Iterator[bytes]:
        total = 0
        for chunk in self._stream:
            total += len(chunk)
            _refuse_more(self._response, total, MAX_FILE_BYTES)
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = 0
        async for chunk in self._stream:
            total += len(chunk)
            _refuse_more(self._response, total, MAX_FILE_BYTES)
            yield chunk

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()
