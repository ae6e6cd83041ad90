"""Batches: validating -> in_progress -> finalizing -> completed, or failed, expired or cancelled on the way.

`cancelling` stands between a client's wish and `cancelled`. A step is committed only from a state that allows it, and
only by the server that has the batch: one takes it up for the length of a lease, as workers do jobs (`jobs`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database.connection import Database, Rows, records
from finetune_assets.server.database.files import FileStore
from finetune_assets.server.database.schema import Batch, new_id

VALIDATING, IN_PROGRESS, FINALIZING, CANCELLING = OPEN = ("validating", "in_progress", "finalizing", "cancelling")
FAILED, COMPLETED, EXPIRED, CANCELLED = ("failed", "completed", "expired", "cancelled")
STATUSES = (*OPEN, FAILED, COMPLETED, EXPIRED, CANCELLED)
WINDOW_SECONDS = 86_400
MAX_ERRORS = 100
"""How many errors of an input file are told."""


class BatchStateError(FinetuneAssetsError, RuntimeError):
    """A batch is not in a state that allows the step."""


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """What a client asks for."""

    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None
    output_expires_in: int | None
    """Seconds; None keeps output files as long as files of their purpose are kept."""
    owner: str = ""


class BatchStore:
    """Creates, moves and finds batches; safe to use from several threads. Steps may raise `BatchStateError`.

    `claim` is that of the server that works on the batch; None: of nobody.
    """

    def __init__(self, database: Database, files: FileStore, claim: int | None = None) -> None:
        self._database = database
        self._files = files
        self._claim = claim

    def of(self, claim: int) -> BatchStore:
        """Move batches as the server with this claim."""
        return BatchStore(self._database, self._files, claim)

    def create(self, request: BatchRequest) -> Batch:
        """Add a batch to those that are worked on."""
        now = int(time.time())
        batch = Batch(
            id=new_id("batch_"),
            created_at=now,
            status=VALIDATING,
            endpoint=request.endpoint,
            input_file_id=request.input_file_id,
            completion_window=request.completion_window,
            meta=request.metadata,
            output_expires_in=request.output_expires_in,
            owner=request.owner,
            expires_at=now + WINDOW_SECONDS,
            stamps={},
        )
        with self._database.writing() as session:
            session.add(batch)
        return batch

    def get(self, batch_id: str) -> Batch | None:
        """Find the batch, or None."""
        found = self._database.read(records(Batch).where(Batch.id == batch_id))
        return found[0] if found else None

    def page(self, *, after: str | None, limit: int) -> Rows[Batch]:
        """List batches, the newest first.

        Raises:
            UnknownCursorError: `after` is not the id of a batch.
        """
        return self._database.page(records(Batch), Batch.id, after=after, limit=limit)

    def open(self, mine: Collection[str] = ()) -> Sequence[Batch]:
        """List the batches that are not over, and that nobody works on or are `mine` (ids), the oldest first."""
        query = select(Batch).where(Batch.status.in_(OPEN), or_(Batch.id.in_(mine), self._is_free))
        with self._database.reading() as session:
            return session.scalars(query.order_by(Batch.number)).all()

    def claim(self, batch_id: str, seconds: float) -> int | None:
        """Take up a batch for so many seconds; None if another server has. Returns the number that steps carry."""
        free = select(Batch.number).where(Batch.id == batch_id, self._is_free).with_for_update(skip_locked=True)
        taken = update(Batch).where(Batch.number.in_(free))
        taken = taken.values(claim=Batch.claim + 1, lease_until=self._database.clock + seconds)
        with self._database.changing() as session:
            return session.scalar(taken.returning(Batch.claim))

    def renew(self, claims: Mapping[str, int], seconds: float) -> None:
        """Keep the batches of these ids and claims for so many seconds more: none is 0, and lets others have them."""
        until = self._database.clock + seconds if seconds else None
        with self._database.changing() as session:
            for batch_id, claim in claims.items():
                mine = update(Batch).where(Batch.id == batch_id, Batch.claim == claim)
                session.execute(mine.values(lease_until=until))

    def recover(self) -> None:
        """Let all batches be taken up. For a server that has just started, and is the only one."""
        with self._database.writing() as session:
            session.execute(update(Batch).where(Batch.lease_until.is_not(None)).values(lease_until=None))

    @property
    def _is_free(self) -> ColumnElement[bool]:
        return or_(Batch.lease_until.is_(None), Batch.lease_until < self._database.clock)

    def count(self, status: str) -> int:
        """Count the batches in a state."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(Batch.status == status)) or 0

    def started(self, batch_id: str, *, model: str | None, total: int) -> None:
        """Record that the input file is fine and its `total` lines are being answered."""
        with self._change(batch_id, VALIDATING) as (_, batch):
            batch.model, batch.total = model, total
            _move(batch, IN_PROGRESS)

    def failed(self, batch_id: str, errors: list[dict[str, Any]]) -> None:
        """Give the batch up; `errors` are objects of code, message, param and line."""
        with self._change(batch_id, VALIDATING, IN_PROGRESS, FINALIZING) as (_, batch):
            batch.errors = errors[:MAX_ERRORS]
            _move(batch, FAILED)

    def counted(self, batch_id: str, *, completed: int, failed: int, usage: dict[str, Any]) -> None:
        """Record how many lines have been answered and refused so far."""
        with self._change(batch_id, *OPEN) as (_, batch):
            batch.completed, batch.failed, batch.usage = completed, failed, usage

    def cancelling(self, batch_id: str) -> Batch:
        """Record that a client no longer wants it."""
        with self._change(batch_id, VALIDATING, IN_PROGRESS, CANCELLING) as (_, batch):
            if batch.status != CANCELLING:
                _move(batch, CANCELLING)
        return batch

    def finalizing(self, batch_id: str) -> None:
        """Record that all lines are done and the files are being made."""
        with self._change(batch_id, IN_PROGRESS, FINALIZING) as (_, batch):
            if batch.status != FINALIZING:
                _move(batch, FINALIZING)

    def finished(self, batch_id: str, status: str, output: Path, errors: Path) -> None:
        """Publish what has been made, and with it the final state; a file that is missing or empty is not published.

        Raises:
            ShortageError: there is no room for the files.
        """
        with self._files.incoming() as made, self._files.incoming() as refused:
            for path, incoming in ((output, made), (errors, refused)):
                if path.exists():
                    with path.open("rb") as lines:
                        shutil.copyfileobj(lines, incoming, 1 << 20)
                incoming.finish()
            with self._change(batch_id, FINALIZING, CANCELLING, IN_PROGRESS) as (session, batch):
                for kind, incoming in (("output", made), ("error", refused)):
                    if incoming.size:
                        name = f"{batch_id}_{kind}.jsonl"
                        row = self._files.place(
                            session, incoming, filename=name, purpose="batch_output",
                            expires_in=batch.output_expires_in, owner=batch.owner,
                        )  # fmt: skip
                        setattr(batch, f"{kind}_file_id", row.id)
                _move(batch, status)

    @contextmanager
    def _change(self, batch_id: str, *expected: str) -> Iterator[tuple[Session, Batch]]:
        with self._database.writing() as session:
            batch = session.scalars(select(Batch).where(Batch.id == batch_id)).one()
            if self._claim not in (None, batch.claim):
                raise BatchStateError(f"batch {batch_id} was taken up by another server")
            if batch.status not in expected:
                raise BatchStateError(f"batch {batch_id} must be {' or '.join(expected)}, but is {batch.status}")
            yield session, batch


def _move(batch: Batch, status: str) -> None:
    batch.status = status
    batch.stamps = {**batch.stamps, f"{status}_at": int(time.time())}
