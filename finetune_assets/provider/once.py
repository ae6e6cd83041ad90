"""What costs money or leaves something behind is done once, whatever happens to the requests for it.

A request whose answer was lost may have succeeded, so it is never simply repeated: after every error of the line or
the server we look first. Between looking and asking, no other process of this project may do the same; a lock keeps it
waiting. On one machine that is a lock on a file, where its runs meet; the system lets go of it when a process ends.
Machines that have a PostgreSQL database in common meet there (`common_database.turn`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import openai
from filelock import FileLock

from finetune_assets import common_database
from finetune_assets.provider.client import Client

ATTEMPTS = 8
MAX_WAIT_S = 120.0
"""Longest pause that a provider's `Retry-After` is followed for."""
LOCKS = Path("var/locks")

Found = TypeVar("Found")


@contextmanager
def alone(client: Client, what: str) -> Iterator[Callable[[], None]]:
    """Wait until no other process does `what` with the same provider: of this machine, or of all that work together.

    What is given here raises an error where that is no longer so; `once` asks it.

    Raises:
        FeedbackDatabaseError: machines work together, and their database does not answer.
    """
    name = hashlib.sha256(f"{client.base_url}\n{what}".encode()).hexdigest()[:32]
    if common_database.address() is not None:
        with common_database.turn(name) as require:
            yield require
        return
    LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(LOCKS / f"{name}.lock"):
        yield lambda: None


def once(
    find: Callable[[], Found | None], create: Callable[[], Found], require_alone: Callable[[], None]
) -> tuple[Found, bool]:
    """Return what `find` finds, else what `create` makes; and whether it was there before.

    `create` must not repeat itself (`max_retries=0`). Right before it, `require_alone` may raise an error of its own.

    Raises:
        openai.APIError: the provider refused, or `ATTEMPTS` attempts failed.
    """
    attempt = 1
    while (found := find()) is None:
        require_alone()
        try:
            return create(), False
        except openai.APIError as error:
            if not may_pass(error) or attempt == ATTEMPTS:
                raise
            time.sleep(pause(error, attempt))
            attempt += 1
    return found, attempt == 1


def may_pass(error: openai.APIError) -> bool:
    """Say whether the same request may succeed later: money that is used up does not come back by itself."""
    if error.code == "insufficient_quota":
        return False
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def pause(error: openai.APIError, attempt: int) -> float:
    """Return the seconds to wait after a failed attempt: what the provider asks for, else twice as long each time."""
    asked = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
    try:
        return min(max(float(asked), 0.0), MAX_WAIT_S)
    except ValueError:
        return min(2.0 ** (attempt - 1), 8.0)
