"""Answers that were paid for, kept so that nothing is asked twice: not after a crash, in another run or elsewhere.

An answer is found by the hash of what decides it: who is asked, and every byte of the question. It is written as soon
as it comes, into a file of this machine or, where machines have a database in common, into that (`answer_tables`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from finetune_assets import common_database
from finetune_assets.provider.answer_tables import AnswerFile, AnswerTable, CommonAnswers
from finetune_assets.provider.completions import Reply

MAX_BYTES = 2**30
"""Above it the oldest quarter of the answers is forgotten: about a million answers of a word have room."""


class AnswerCache:
    """Replies by key. Threads and processes may share it."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Open what machines have in common, else the file at `path`; or make it.

        Raises:
            AnswerCacheError: the file is damaged, or no cache.
            FeedbackDatabaseError: the database does not answer.
        """
        shared = common_database.address() is not None
        self._table: AnswerTable = CommonAnswers(max_bytes) if shared else AnswerFile(path, max_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()

    def get(self, key: bytes) -> Reply | None:
        """Return the reply that was kept under `key`."""
        reply = self._table.get(key)
        return Reply.from_json(reply) if reply else None

    def put(self, key: bytes, reply: Reply) -> None:
        """Keep a reply; a refusal is not kept, and will be asked again."""
        if reply.error is None:
            self._table.put(key, reply.to_json())

    def put_all(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """Keep many replies, or none of them if anything fails."""
        self._table.put_all((key, reply.to_json()) for key, reply in replies if reply.error is None)


def key_of(base_url: str, made: int | None, body: bytes) -> bytes:
    """Return the 32 bytes under which the answer to a request is kept.

    Args:
        base_url: Who is asked.
        made: When the model was made, in Unix seconds as the provider says: an alias may come to mean another one.
        body: The request: model, messages with their images, and settings.
    """
    return hashlib.sha256(f"{base_url}\n{made}\n".encode() + body).digest()
