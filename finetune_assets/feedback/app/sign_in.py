"""Signing in and out. Whoever guesses waits, by his address: nobody can lock a reviewer out from elsewhere."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from finetune_assets.feedback.store import reviewers
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.reviewers import Reviewer

FREE_FAILURES = 5
"""So many wrong passwords in a row are nobody's business; after each further one there is a wait, twice as long."""
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 30.0, 900.0
_MAX_ADDRESSES = 10_000
_MAX_FORM = 4096
AT_ONCE, WAITING = 2, 16
"""Passwords that are looked at together, as each takes 32 MB, and those that may wait for it."""
_PAGE = (Path(__file__).parent / "page" / "login.html").read_text("utf-8")


class Attempts:
    """Wrong passwords by the address that they came from; the oldest of ten thousand is forgotten."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def begin(self, address: str, now: float) -> float:
        """Count an attempt as wrong before it is looked at; return for how many seconds it has to wait, 0 if it may."""
        n, last = self._failures.get(address, (0, 0.0))
        if n >= FREE_FAILURES:
            wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(n - FREE_FAILURES, 30))
            if now - last < wait:
                return wait - (now - last)
        self._failures[address] = (n + 1, now)
        self._failures.move_to_end(address)
        while len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return 0.0

    def was_right(self, address: str) -> None:
        """Begin anew with an address that knew a password."""
        self._failures.pop(address, None)


@dataclass
class SignIn:
    """The pages for it, and who is signed in."""

    db: FeedbackDatabase
    attempts: Attempts = field(default_factory=Attempts)
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _waiting: int = 0

    async def page(self, request: Request) -> Response:
        """Show the form, or take what was filled in."""
        if request.method != "POST":
            return _page(200, "")
        try:
            form = parse_qs((await _body(request)).decode("utf-8", "replace"), max_num_fields=10)
        except ValueError:  # it has more fields
            return _page(400, "This is not what the form sends.")
        name, password = (form.get(field, [""])[0].replace("\0", "") for field in ("username", "password"))
        address = address_of(request)
        if self._waiting >= WAITING:
            return _page(503, "Many people are signing in just now. Try again in a moment.")
        if wait := self.attempts.begin(address, time.monotonic()):
            return _page(429, f"Too many wrong passwords came from your address. Try again in {wait:.0f} s.")
        self._waiting += 1
        try:
            async with self._turn:
                right = await run_in_threadpool(reviewers.is_password, self.db, name, password)
        finally:
            self._waiting -= 1
        if not right:
            return _page(401, "Name or password are wrong.")
        self.attempts.was_right(address)
        token = await run_in_threadpool(reviewers.open_session, self.db, name)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            _cookie(request),
            token,
            max_age=int(reviewers.SESSION_SECONDS),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        if token := request.cookies.get(_cookie(request)):
            await run_in_threadpool(reviewers.close_session, self.db, token)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(_cookie(request))
        return answer

    async def who(self, request: Request) -> Reviewer | None:
        """Return who is signed in, or None. Reads nothing of the request's body."""
        token = request.cookies.get(_cookie(request))
        return await run_in_threadpool(reviewers.signed_in, self.db, token) if token else None


def address_of(request: Request) -> str:
    """Return what a client's attempts are counted under: of IPv6 the network, whose addresses anybody has."""
    host = request.client.host if request.client else ""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


async def _body(request: Request) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > _MAX_FORM:
            return b""
    return bytes(found)


def _cookie(request: Request) -> str:
    # Cookies do not tell ports apart, and two apps on one machine are not one.
    return f"feedback-{request.url.port or request.url.scheme}"


def _page(status: int, words: str) -> HTMLResponse:
    return HTMLResponse(_PAGE.replace("{{words}}", escape(words)), status)
