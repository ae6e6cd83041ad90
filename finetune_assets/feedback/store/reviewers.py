"""Who may sign in, what else he may do, and who is signed in. Passwords and tokens are kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import delete, insert, select, update

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.schema import leases, reviewers, sessions

Role = Literal["reviewer", "adjudicator", "admin"]
"""A reviewer judges; an adjudicator also decides what others disagree about; an admin also sets gold questions."""
ROLES: tuple[Role, ...] = get_args(Role)
MIN_PASSWORD = 8
SESSION_SECONDS = 7 * 86_400.0
# 32 MB and a tenth of a second for every guess.
_COST, _BLOCK, _PARALLEL = 2**15, 8, 1


class ReviewerError(FinetuneAssetsError, ValueError):
    """A reviewer's name, password or role cannot be taken, or there is no such reviewer."""


@dataclass(frozen=True)
class Reviewer:
    """Somebody who may sign in."""

    name: str
    role: Role

    @property
    def decides(self) -> bool:
        """Whether he decides what others disagree about."""
        return self.role != "reviewer"


def add_reviewer(db: FeedbackDatabase, name: str, password: str, role: Role = "reviewer") -> None:
    """Let a reviewer sign in; one who can already gets the new password and role, and is signed out.

    Raises:
        ReviewerError: the name is empty or has white space around it, the password is too short, or there is no such
            role.
    """
    if not name or name != name.strip():
        raise ReviewerError(f"name must not be empty nor have white space around it, got {name!r}")
    if len(password) < MIN_PASSWORD:
        raise ReviewerError(f"password of {name} must have at least {MIN_PASSWORD} characters, got {len(password)}")
    if role not in ROLES:
        raise ReviewerError(f"role of {name} must be one of {', '.join(ROLES)}, got {role!r}")
    made = {"password": _hashed(password, secrets.token_bytes(16)), "role": role}
    with db.writing() as connection:
        connection.execute(delete(sessions).where(sessions.c.reviewer == name))
        if not connection.execute(update(reviewers).where(reviewers.c.name == name).values(made)).rowcount:
            connection.execute(insert(reviewers).values(name=name, **made))


def remove_reviewer(db: FeedbackDatabase, name: str) -> None:
    """Let somebody sign in no more, and sign him out at once. What he said stays.

    Raises:
        ReviewerError: there is no such reviewer.
    """
    with db.writing() as connection:
        if not connection.execute(delete(reviewers).where(reviewers.c.name == name)).rowcount:
            raise ReviewerError(f"there is no reviewer {name}: `finetune-assets feedback reviewers` lists them")
        for table in (sessions, leases):
            connection.execute(delete(table).where(table.c.reviewer == name))


def all_reviewers(db: FeedbackDatabase) -> list[Reviewer]:
    """List who may sign in, by name."""
    with db.reading() as connection:
        found = connection.execute(select(reviewers.c.name, reviewers.c.role))
        return sorted((Reviewer(*row) for row in found), key=lambda reviewer: reviewer.name)


def is_password(db: FeedbackDatabase, name: str, password: str) -> bool:
    """Say whether this is the reviewer's password. It takes as long for a name that nobody has."""
    with db.reading() as connection:
        kept = connection.scalar(select(reviewers.c.password).where(reviewers.c.name == name)) or "00$"
    return hmac.compare_digest(_hashed(password, bytes.fromhex(kept.partition("$")[0])), kept)


def open_session(db: FeedbackDatabase, name: str, now: float | None = None) -> str:
    """Sign somebody in, and return the token that his browser keeps."""
    token, at = secrets.token_urlsafe(32), time.time() if now is None else now
    with db.writing() as connection:
        connection.execute(delete(sessions).where(sessions.c.until <= at))
        made = {"token": _digest(token), "reviewer": name, "until": at + SESSION_SECONDS}
        connection.execute(insert(sessions).values(made))
    return token


def signed_in(db: FeedbackDatabase, token: str, now: float | None = None) -> Reviewer | None:
    """Return whose token this is; None where it is nobody's any more."""
    at = time.time() if now is None else now
    query = select(reviewers.c.name, reviewers.c.role).join(sessions, sessions.c.reviewer == reviewers.c.name)
    with db.reading() as connection:
        row = connection.execute(query.where(sessions.c.token == _digest(token), sessions.c.until > at)).first()
    return None if row is None else Reviewer(*row)


def close_session(db: FeedbackDatabase, token: str) -> None:
    """Sign somebody out."""
    with db.writing() as connection:
        connection.execute(delete(sessions).where(sessions.c.token == _digest(token)))


def _digest(token: str) -> str:
    # A token is as random as any key, so that one round is enough.
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _hashed(password: str, salt: bytes) -> str:
    given = password.encode("utf-8", "replace")
    hashed = hashlib.scrypt(given, salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, maxmem=2**27)
    return f"{salt.hex()}${hashed.hex()}"
