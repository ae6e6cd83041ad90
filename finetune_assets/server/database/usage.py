"""What each owner of a key has: jobs under way, bytes stored, tokens of today; and what he may have.

Counted from the rows themselves, but for the tokens of completions, of which a row keeps the sum of each day in UTC.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.schema import Job, StoredCompletion, StoredFile, TokensOfDay, Upload

What = Literal["jobs", "tokens", "disk"]
DAY_SECONDS = 86_400
_UNDER_WAY = ("validating_files", "queued", "running", "paused")


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks, and how much of everything he may have; None is any amount."""

    name: str = ""
    jobs: int | None = None
    """Fine-tuning jobs that are not over."""
    tokens: int | None = None
    """Tokens a day: of prompts, of answers, and of training."""
    disk: int | None = None
    """Bytes of files, of uploads that are not complete, and of completions that are kept."""

    def limit(self, what: What) -> int | None:
        """Return how much he may have."""
        return {"jobs": self.jobs, "tokens": self.tokens, "disk": self.disk}[what]


NOBODY = Account()


class QuotaError(FinetuneAssetsError, RuntimeError):
    """An owner has all that he may have. `seconds` is when there is more, where that is known."""

    def __init__(self, account: Account, what: What, used: int, wanted: int = 0) -> None:
        self.what: What = what
        self.seconds = seconds_left_of_day() if what == "tokens" else None
        limit = account.limit(what) or 0
        told = {
            "jobs": f"has {used:,} fine-tuning jobs that are not over, of at most {limit:,}. Try again when one of "
            "them has ended, or cancel one",
            "tokens": f"has used {used:,} of its {limit:,} tokens of this day. Try again in {self.seconds} seconds, at "
            "midnight UTC",
            "disk": f"has stored {used:,} of its {limit:,} bytes, and {wanted:,} more do not fit. Try again when files "
            "have been deleted or have expired",
        }
        super().__init__(f"The key {account.name!r} {told[what]}.")


class Usage:
    """Counts; safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def used(self, account: Account, what: What) -> int:
        """Count what an owner has now."""
        with self._database.reading() as session:
            return _COUNT[what](session, account.name)

    def spend(self, account: Account, tokens: int) -> None:
        """Count tokens of completions; of owners without a limit nobody asks."""
        if account.tokens is None or not tokens:
            return
        day = _today(account.name)
        more = update(TokensOfDay).where(TokensOfDay.id == day).values(tokens=TokensOfDay.tokens + tokens)
        with self._database.writing() as session:
            if session.scalar(more.returning(TokensOfDay.number)) is None:
                session.add(TokensOfDay(id=day, tokens=tokens))

    def check(self, account: Account, what: What, wanted: int = 1) -> None:
        """See whether an owner may have so much more.

        Raises:
            QuotaError: he may not.
        """
        with self._database.reading() as session:
            check(session, account, what, wanted)


def check(session: Session, account: Account, what: What, wanted: int = 1) -> None:
    """As `Usage.check`, in a transaction, so that of two who come together only one is let through."""
    limit = account.limit(what)
    if limit is not None and (used := _COUNT[what](session, account.name)) + wanted > limit:
        raise QuotaError(account, what, used, wanted)


def seconds_left_of_day() -> int:
    """Return the seconds until midnight UTC."""
    return DAY_SECONDS - int(time.time()) % DAY_SECONDS


def _today(owner: str) -> str:
    return f"{int(time.time()) // DAY_SECONDS} {owner}"


def _jobs(session: Session, owner: str) -> int:
    return session.scalar(select(func.count()).where(Job.owner == owner, Job.status.in_(_UNDER_WAY))) or 0


def _tokens(session: Session, owner: str) -> int:
    midnight = int(time.time()) // DAY_SECONDS * DAY_SECONDS
    trained = select(func.sum(Job.trained_tokens)).where(Job.owner == owner, Job.finished_at >= midnight)
    answered = select(TokensOfDay.tokens).where(TokensOfDay.id == _today(owner))
    return (session.scalar(trained) or 0) + (session.scalar(answered) or 0)


def _disk(session: Session, owner: str) -> int:
    stored = select(func.sum(StoredFile.bytes)).where(StoredFile.owner == owner, StoredFile.deleted.is_(False))
    coming = select(func.sum(Upload.bytes)).where(Upload.owner == owner, Upload.status == "pending")
    kept = select(func.sum(StoredCompletion.bytes)).where(StoredCompletion.owner == owner)
    return sum(session.scalar(query) or 0 for query in (stored, coming, kept))


_COUNT = {"jobs": _jobs, "tokens": _tokens, "disk": _disk}
