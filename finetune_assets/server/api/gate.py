"""In front of every route: a request id, the API key, and limits on bodies, in size and pace, before any is read."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetune_assets.server.api.body_shape import ASKING, limits_of, openai_path
from finetune_assets.server.api.places import Kind, Places, weight
from finetune_assets.server.api.wire import ASKER, ApiError, quota_refusal
from finetune_assets.server.database.usage import Account, QuotaError, Usage, What, seconds_left_of_day
from finetune_assets.server.keys import Key, Keys

REQUEST_ID = "finetune_assets.request_id"
"""Key of the request id in the ASGI scope."""
OPEN_PATHS = frozenset({"/healthz", "/metrics", "/docs", "/openapi.json"})
MAX_FILE_BYTES = 512 << 20
"""OpenAI's limit on one uploaded file."""
MAX_PART_BYTES = 64 << 20
"""OpenAI's limit on one part of an upload."""
SILENCE_SECONDS = 60.0
"""How long a client may pause while it sends a body."""
SLOWEST_BYTES_PER_SECOND = 8 << 10
"""A client that sends a body more slowly, on average, is given up."""
_FORM_OVERHEAD = 64 << 10
_MAX_DISCARDED_BYTES = 1 << 30
_PARTS = re.compile(r"/v1/uploads/[^/]+/parts")


class Gate:
    """ASGI middleware. Everything needs the key but what `OPEN_PATHS` lists, in OpenAI's header or in Azure's."""

    def __init__(
        self, app: ASGIApp, keys: Keys, places: Places, usage: Usage, patience: float = SILENCE_SECONDS
    ) -> None:
        self._app = app
        self._keys = keys
        self._places = places
        self._usage = usage
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = f"req_{uuid.uuid4().hex}"
        scope["path"] = openai_path(scope["path"])

        key: Key | None = None
        told = {"x-request-id": scope[REQUEST_ID]}

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(told)
                if key is not None:
                    self._keys.note(key, scope["method"], scope["path"], message["status"], scope[REQUEST_ID])
            await send(message)

        try:
            key = self._known_key(scope)
            if key is not None:
                self._check_right(key, scope, told)
                self._check_quotas(key.account, scope, told)
            size = _announced(scope)
            _check_size(size, _limit(scope["path"]))
        except ApiError as refusal:
            await _Body(receive, self._patience).discard()
            await refusal.response()(scope, receive, send_with_id)
        else:
            await self._serve(key, size, scope, receive, send_with_id)

    async def _serve(self, key: Key | None, size: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in once there is a place for it; its body is on its way, and is in time, only then."""
        if key is None:
            await self._app(scope, _limited(scope, _Body(receive, self._patience)), send)
            return
        scope[ASKER] = key.account
        place = self._places.of(key.name, _kind(scope))
        left, body = False, _Body(receive, self._patience)

        async def send_and_leave(message: Message) -> None:
            # A stream, or a file that is read slowly, costs next to nothing from here on.
            nonlocal left
            if not left:
                left = True
                place.give_back(key.name, 1)
                if size:  # the answer may be there before all of the request
                    await body.discard()
            await send(message)

        await place.take(key.name, 1)
        try:
            async with self._places.bodies.taken(key.name, 0 if _is_form(scope) else weight(size)):
                await self._app(scope, _limited(scope, body), send_and_leave)
        finally:
            if not left:
                place.give_back(key.name, 1)

    def _known_key(self, scope: Scope) -> Key | None:
        if scope["path"] in OPEN_PATHS:
            return None
        headers = Headers(scope=scope)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else headers.get("api-key", "").strip()
        if not key:
            hint = (
                "Send it in the header 'Authorization: Bearer YOUR_KEY'; the server said at its start where the key is."
            )
            raise ApiError(401, f"You did not provide an API key. {hint}", code="invalid_api_key")
        if (found := self._keys.find(key)) is None:
            hint = "The server said at its start where its key is."
            raise ApiError(401, f"Incorrect API key provided. {hint}", code="invalid_api_key")
        return found

    def _check_right(self, key: Key, scope: Scope, told: dict[str, str]) -> None:
        if not key.may(scope["method"], scope["path"]):
            message = f"The key {key.name!r} is for {', '.join(key.scopes) or 'nothing'} alone, not for this."
            raise ApiError(403, message, code="insufficient_scope")
        if key.requests_per_minute is None:
            return
        left, seconds = self._keys.count(key)
        told |= {
            "x-ratelimit-limit-requests": str(key.requests_per_minute),
            "x-ratelimit-remaining-requests": str(max(0, left)),
            "x-ratelimit-reset-requests": f"{seconds:.0f}s",
        }
        if left < 0:
            told["retry-after"] = f"{seconds:.0f}"
            message = f"The key {key.name!r} may ask {key.requests_per_minute} times a minute. Try again later."
            raise ApiError(429, message, code="rate_limit_exceeded", kind="requests")

    def _check_quotas(self, account: Account, scope: Scope, told: dict[str, str]) -> None:
        """Tell of the quotas that a request is about, and refuse it where nothing of them is left."""
        for what in _quotas_of(scope["method"], scope["path"]):
            limit = account.limit(what)
            if limit is None:
                continue
            used = self._usage.used(account, what)
            told[f"x-ratelimit-limit-{what}"] = str(limit)
            told[f"x-ratelimit-remaining-{what}"] = str(max(0, limit - used))
            if what == "tokens":
                told[f"x-ratelimit-reset-{what}"] = f"{seconds_left_of_day()}s"
            # A job may be a repeated request for one that is there; so that is left to where jobs are made.
            if what != "jobs" and used >= limit:
                raise quota_refusal(QuotaError(account, what, used, 1))


def _quotas_of(method: str, path: str) -> tuple[What, ...]:
    if method != "POST":
        return ()
    if path in ASKING:
        return ("tokens",)
    if path == "/v1/fine_tuning/jobs":
        return ("jobs",)
    return ("disk",) if path in ("/v1/files", "/v1/uploads") else ()


def _kind(scope: Scope) -> Kind:
    if scope["path"] in ASKING:
        return "asking"
    return "looking" if scope["method"] in ("GET", "HEAD") else "changing"


class _Body:
    """What a client sends. One that holds a connection by sending next to nothing is given up."""

    def __init__(self, receive: Receive, patience: float) -> None:
        self._receive, self._patience = receive, patience
        self._began: float | None = None
        self._received = 0
        self.complete = False
        """Whether nothing of it is still to come."""

    async def receive(self) -> Message:
        """Receive what comes next.

        Raises:
            ApiError: it did not come in time.
        """
        if self.complete:
            return await self._receive()
        self._began = self._began or time.monotonic()
        try:
            # A byte a minute is as bad as silence: what has come buys time for what is to come.
            deadline = self._began + self._patience + self._received / SLOWEST_BYTES_PER_SECOND
            async with asyncio.timeout(min(self._patience, deadline - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self.complete = True
            text = f"The request's body did not come, or too slowly, within {self._patience:g} seconds."
            raise ApiError(408, text, code="request_timeout") from None
        self._received += len(message.get("body", b""))
        self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Read the rest, within reason.

        A client that is still sending when the connection closes sees a broken pipe, not the answer, and tries again.
        """
        read = self._received
        with suppress(ApiError):
            while not self.complete and self._received - read <= _MAX_DISCARDED_BYTES:
                await self.receive()


def _limited(scope: Scope, body: _Body) -> Receive:
    limit = _limit(scope["path"])
    received = 0

    async def receive_and_count() -> Message:
        nonlocal received
        message = await body.receive()
        received += len(message.get("body", b""))
        if received > limit:
            await body.discard()
        _check_size(received, limit)
        return message

    return receive_and_count


def _announced(scope: Scope) -> int:
    """How many bytes the body has; as many as it may have, where that is not said beforehand."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return _limit(scope["path"])
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


def _is_form(scope: Scope) -> bool:
    """Whether the body goes to the disk as it comes."""
    return scope["path"] == "/v1/files" or _PARTS.fullmatch(scope["path"]) is not None


def _limit(path: str) -> int:
    if path == "/v1/files":
        return MAX_FILE_BYTES + _FORM_OVERHEAD
    return MAX_PART_BYTES + _FORM_OVERHEAD if _PARTS.fullmatch(path) else limits_of(path).bytes


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ApiError(413, f"The body of the request is larger than {limit >> 20} MB, the most that is accepted here.")
