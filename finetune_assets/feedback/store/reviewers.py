"""Who may sign in. Passwords are kept as scrypt hashes; whoever guesses has to wait longer and longer."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

from sqlalchemy import insert, select, update

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.schema import reviewers

MIN_PASSWORD = 8
FREE_FAILURES = 5
"""So many wrong passwords in a row are nobody's business; after each further one there is a wait, twice as long."""
_FIRST_WAIT_SECONDS = 30.0
_LONGEST_WAIT_SECONDS = 900.0
# 32 MB and a tenth of a second for every guess.
_COST, _BLOCK, _PARALLEL = 2**15, 8, 1


class ReviewerError(FinetuneAssetsError, ValueError):
    """A reviewer's name or password cannot be taken."""


class TooManySignInsError(FinetuneAssetsError, PermissionError):
    """Too many wrong passwords: even the right one has to wait."""


def add_reviewer(db: FeedbackDatabase, name: str, password: str) -> None:
    """Let a reviewer sign in; for one who can already, this sets a new password.

    Raises:
        ReviewerError: the name is empty or has white space around it, or the password is too short.
    """
    if not name or name != name.strip():
        raise ReviewerError(f"name must not be empty nor have white space around it, got {name!r}")
    if len(password) < MIN_PASSWORD:
        raise ReviewerError(f"password of {name} must have at least {MIN_PASSWORD} characters, got {len(password)}")
    made = {"password": _hashed(password, secrets.token_bytes(16)), "failures": 0, "last_failure": 0.0}
    with db.writing() as connection:
        if not connection.execute(update(reviewers).where(reviewers.c.name == name).values(made)).rowcount:
            connection.execute(insert(reviewers).values(name=name, **made))


def sign_in(db: FeedbackDatabase, name: str, password: str, now: float | None = None) -> bool:
    """Say whether this is the reviewer's password. It takes as long for a name that nobody has.

    Raises:
        TooManySignInsError: there were too many wrong ones just now.
    """
    at = time.time() if now is None else now
    mine = reviewers.c.name == name
    # Counted as wrong before it is looked at, so that guesses made at once count as many.
    with db.writing() as connection:
        found = connection.execute(select(reviewers).where(mine)).first()
        if found is not None:
            _check_wait(found.failures, at - found.last_failure)
            counted = {"failures": found.failures + 1, "last_failure": at}
            connection.execute(update(reviewers).where(mine).values(counted))
    kept = found.password if found is not None else "00$"
    right = hmac.compare_digest(_hashed(password, bytes.fromhex(kept.partition("$")[0])), kept)
    if right:
        with db.writing() as connection:
            connection.execute(update(reviewers).where(mine).values(failures=0))
    return right


def names(db: FeedbackDatabase) -> list[str]:
    """List who may sign in."""
    with db.reading() as connection:
        return sorted(connection.scalars(select(reviewers.c.name)))


def _check_wait(failures: int, since: float) -> None:
    if failures >= FREE_FAILURES:
        wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** (failures - FREE_FAILURES))
        if since < wait:
            raise TooManySignInsError(f"{failures} wrong passwords in a row: try again in {wait - since:.0f} s")


def _hashed(password: str, salt: bytes) -> str:
    hashed = hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, maxmem=2**27)
    return f"{salt.hex()}${hashed.hex()}"
