"""Completions that clients want kept, with the conversations that they answer: for 30 days, as OpenAI keeps them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from sqlalchemy import Select, func, inspect, select, update
from sqlalchemy.orm import Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database.connection import Database, Rows, having, records
from finetune_assets.server.database.schema import StoredCompletion
from finetune_assets.server.database.usage import Account, check

KEPT_SECONDS = 30 * 86_400
MAX_BYTES = 8 << 20
"""Of one completion with its conversation."""
MAX_KEPT, MAX_KEPT_BYTES = 10_000, 1 << 30
"""Of all that one key keeps."""
_PAGE = 100
_ALIVE = StoredCompletion.deleted.is_(False)
_WITHOUT_ASKED: Any = select(
    *[column.label(name) for name, column in inspect(StoredCompletion).c.items() if name != "asked"]
).where(_ALIVE)
_EMPTY: dict[str, Any] = {"deleted": True, "bytes": 0, "asked": {}, "completion": {}, "meta": None}


class KeptTooMuchError(FinetuneAssetsError, ValueError):
    """A completion is too large to be kept, or its owner keeps all that can be kept."""


class CompletionStore:
    """Keeps completions; safe to use from several threads. A key's are its own: no other sees them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, account: Account, n_bytes: int) -> None:
        """See whether an owner may have so many bytes more kept.

        Raises:
            KeptTooMuchError: he has all that can be kept, or it is too much at once.
            QuotaError: his key has no more room on the disk.
        """
        with self._database.reading() as session:
            _check(session, account, n_bytes)

    def add(
        self, account: Account, asked: dict[str, Any], completion: dict[str, Any], metadata: dict[str, str] | None
    ) -> None:
        """Keep a completion and what was asked (`messages`, `tools`). Raises as `check`."""
        n_bytes = len(orjson.dumps(asked)) + len(orjson.dumps(completion))
        now = int(time.time())
        row = StoredCompletion(
            id=completion["id"], created_at=now, expires_at=now + KEPT_SECONDS, model=completion["model"],
            meta=metadata, asked=asked, completion=completion, bytes=n_bytes, owner=account.name,
        )  # fmt: skip
        with self._database.writing() as session:
            _check(session, account, n_bytes)
            session.add(row)

    def get(self, owner: str, completion_id: str) -> StoredCompletion | None:
        """Find one of an owner's, or None."""
        found = self._database.read(_of(owner, records(StoredCompletion)).where(StoredCompletion.id == completion_id))
        return found[0] if found else None

    def page(
        self, owner: str, *, model: str | None, metadata: Mapping[str, str], after: str | None, limit: int,
        ascending: bool,
    ) -> Rows[StoredCompletion]:  # fmt: skip
        """List an owner's, without what was asked: of this model, and with all these pairs in their metadata.

        Raises:
            UnknownCursorError: `after` is not the id of a completion.
        """
        query = having(self._database, _of(owner, _WITHOUT_ASKED), StoredCompletion.meta, metadata)
        if model is not None:
            query = query.where(StoredCompletion.model == model)
        return self._database.page(query, StoredCompletion.id, after=after, limit=limit, ascending=ascending)

    def each(self, owner: str, *, model: str | None, metadata: Mapping[str, str]) -> Iterator[StoredCompletion]:
        """Yield those of a list one by one, the oldest first, with what was asked."""
        after: str | None = None
        while True:
            page = self.page(owner, model=model, metadata=metadata, after=after, limit=_PAGE, ascending=True)
            yield from filter(None, (self.get(owner, row.id) for row in page.items))
            if not page.has_more:
                return
            after = page.items[-1].id

    def describe(self, owner: str, completion_id: str, metadata: dict[str, str] | None) -> bool:
        """Replace the metadata of one of an owner's; False if there is none of this id."""
        return self._change(owner, completion_id, {"meta": metadata})

    def delete(self, owner: str, completion_id: str) -> bool:
        """Forget one of an owner's; False if there is none of this id."""
        return self._change(owner, completion_id, _EMPTY)

    def remove_expired(self) -> None:
        """Forget those whose time is over."""
        old = update(StoredCompletion).where(_ALIVE, StoredCompletion.expires_at <= int(time.time()))
        with self._database.writing() as session:
            session.execute(old.values(**_EMPTY))

    def _change(self, owner: str, completion_id: str, values: dict[str, Any]) -> bool:
        mine = update(StoredCompletion).where(
            _ALIVE, StoredCompletion.owner == owner, StoredCompletion.id == completion_id
        )
        with self._database.writing() as session:
            return session.scalar(mine.values(**values).returning(StoredCompletion.number)) is not None


def _of(owner: str, query: Select[tuple[StoredCompletion]]) -> Select[tuple[StoredCompletion]]:
    return query.where(_ALIVE, StoredCompletion.owner == owner, StoredCompletion.expires_at > int(time.time()))


def _check(session: Session, account: Account, n_bytes: int) -> None:
    if n_bytes > MAX_BYTES:
        told = f"A conversation of {n_bytes:,} bytes is too large to be kept"
        raise KeptTooMuchError(f"{told}, at most {MAX_BYTES:,} are; leave 'store' out, or show smaller images.")
    mine = select(func.count(), func.sum(StoredCompletion.bytes)).where(_ALIVE, StoredCompletion.owner == account.name)
    n_kept, n_kept_bytes = session.execute(mine).one()
    if n_kept >= MAX_KEPT or (n_kept_bytes or 0) + n_bytes > MAX_KEPT_BYTES:
        most = f"{MAX_KEPT:,} completions or {MAX_KEPT_BYTES:,} bytes"
        raise KeptTooMuchError(
            f"This key keeps {most} of completions, all that it may; delete some, or leave 'store' out."
        )
    check(session, account, "disk", n_bytes)
