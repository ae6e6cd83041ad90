"""In front of every route: headers, the size and time of bodies, and no request from other sites' pages."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 256 * 1024
"""Bytes; the longest answer and comment, each character written as an escape, are less."""
BODY_SECONDS = 15.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class BodyError(Exception):
    """A request is not let through: it is foreign, larger than anything the page sends, or does not arrive."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate:
    """ASGI middleware. Answers 403 to what another site's page sends, 413 and 408 to bodies without end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        passage = _Passage(receive, send, scope["method"] in ("GET", "HEAD"))
        try:
            if not passage.finished and _is_foreign(headers):
                raise BodyError(403, "This comes from another site's page.")
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > MAX_BODY:
                raise _too_large()
            await self._app(scope, passage.receive, passage.send)
        except BodyError as error:
            if not passage.begun:
                await JSONResponse({"message": str(error)}, error.status)(scope, receive, passage.send)


class _Passage:
    """A request's way in and its answer's way out."""

    def __init__(self, receive: Receive, send: Send, finished: bool) -> None:
        self._receive, self._send = receive, send
        self._until = asyncio.get_running_loop().time() + BODY_SECONDS
        self._read = 0
        self.finished = finished
        """Whether all of the body has been read."""
        self.begun = False
        """Whether the answer has begun."""

    async def receive(self) -> Message:
        """Receive as much as is allowed, for as long.

        Raises:
            BodyError: it is too much, or takes too long.
        """
        if self.finished:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise BodyError(408, "The request did not arrive in time: send it again.") from None
        self._read += len(message.get("body", b""))
        self.finished = not message.get("more_body", False)
        if self._read > MAX_BODY:
            raise _too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send with our headers."""
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            if not self.finished:
                # What has not been read is not read any more.
                headers["Connection"] = "close"
        await self._send(message)


def _too_large() -> BodyError:
    return BodyError(413, f"The request has more than {MAX_BODY // 1024} KiB: write less.")


def _is_foreign(headers: Headers) -> bool:
    # The session's cookie is sent along by other pages of the same site.
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
