"""From clean examples to the JSONL file that a provider trains on.

The same examples always give the same bytes, because providers and our own pipeline recognise a file by its hash.
The file appears under its name only when it is complete. Rows are read in chunks and images a few at a time, so that
memory stays flat; images are read, encoded and hashed on all cores, without Python's lock.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jsonlines
import orjson
from upath import UPath

from finetune_assets.dataset import images
from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.dataset.table import Table, records, replacing
from finetune_assets.errors import TrainingFileError
from finetune_assets.task import Prompt, Split
from finetune_assets.training_file.chat_format import to_messages

__all__ = ["BuiltFile", "JsonProblem", "build", "lines"]

_COLUMNS = [
    "example_id",
    "system",
    "question",
    "answer",
    "image",
    "image_sha256",
    "image_bytes",
    "image_modified_ns",
    "image_format",
    "image_fit",
]
_BATCH_ROWS = 16
_BATCH_BYTES = 4 * 1024 * 1024
"""Image bytes of a batch, the unit of work of a thread; a larger image is a batch of its own."""
_BUFFER_BYTES = 1 << 20
_PLACE = "\ue000"
"""Stands for an image while its line is encoded: a URL of megabytes need not be searched for what to escape."""

Row = dict[str, Any]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A finished training file. `sha256` is hexadecimal."""

    path: UPath
    sha256: str
    n_examples: int
    bytes: int


def build(
    table: Table, prompt: Prompt, split: Split, path: str | Path | UPath, threads: int | None = None
) -> BuiltFile:
    """Write one split of the clean examples, one conversation a line, in the order of the table.

    Images are inlined as providers take them.

    Args:
        table: Clean examples, columns as `dataset.sampling.DTYPES`.
        prompt: The task's prompt.
        split: Which rows to write.
        path: Any fsspec location; its folder is made where it does not exist.
        threads: Threads that work on images; None is one for each core.

    Raises:
        ImageError: an image has disappeared or broken since it was sampled.
        TrainingFileError: an image has other bytes than those that were sampled.
    """
    target = UPath(path)
    n_examples, threads = 0, threads or os.cpu_count() or 1
    with replacing(target) as file, _HashingWriter(file) as hashing, ThreadPoolExecutor(threads) as pool:
        # Short lines are hashed and written many at a time.
        buffer = io.BufferedWriter(hashing, _BUFFER_BYTES)
        writer = jsonlines.Writer(buffer, dumps=orjson.dumps)  # pyright: ignore[reportCallIssue]
        for chunk in table.chunks([*_COLUMNS, "split"]):
            rows = records(chunk.loc[chunk["split"] == split, _COLUMNS])
            n_examples += len(rows)
            if not any(row["image"] for row in rows):
                writer.write_all(_conversation(prompt, row) for row in rows)
                buffer.flush()
                continue
            batches = (partial(_parts, prompt, batch) for batch in _batches(rows))
            for parts in _in_order(pool, batches, threads + 1):
                hashing.write_large(parts)
    return BuiltFile(target, hashing.sha256.hexdigest(), n_examples, hashing.n_bytes)


class _HashingWriter(io.RawIOBase):
    """Passes bytes on to a file and hashes them on the way; large ones in a thread of its own, while they are written.

    `sha256` and `n_bytes` are complete when the context ends.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._wait()
        self.sha256.update(data)
        self.n_bytes += len(data)
        return self._file.write(data)

    def write_large(self, parts: list[bytes]) -> None:
        self._wait()
        self._hashing = self._thread.submit(self._hash, parts)
        for part in parts:
            self.n_bytes += len(part)
            self._file.write(part)

    def _hash(self, parts: list[bytes]) -> None:
        for part in parts:
            self.sha256.update(part)

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows in their order, few enough at a time that their images are not felt in memory."""
    batch: list[Row] = []
    n_bytes = 0
    for row in rows:
        n_bytes += row["image_bytes"] or 0
        if batch and (len(batch) == _BATCH_ROWS or n_bytes > _BATCH_BYTES):
            yield batch
            batch, n_bytes = [], row["image_bytes"] or 0
        batch.append(row)
    if batch:
        yield batch


def _in_order(pool: ThreadPoolExecutor, calls: Iterable[Callable[[], Made]], ahead: int) -> Iterator[Made]:
    """The results in order, as `pool.map`, but made only a few ahead of whoever takes them."""
    started: deque[Future[Made]] = deque()
    for call in calls:
        started.append(pool.submit(call))
        if len(started) > ahead:
            yield started.popleft().result()
    while started:
        yield started.popleft().result()


def _conversation(prompt: Prompt, row: Row, url: str | None = None) -> dict[str, Any]:
    return {"messages": to_messages(prompt, row["question"], url, row["answer"], system=row["system"])}


def _parts(prompt: Prompt, batch: list[Row]) -> list[bytes]:
    """The lines of a batch in pieces, so that images of megabytes are neither copied nor searched."""
    parts: list[bytes] = []
    for row in batch:
        url = _image_url(row)
        line = _line(prompt, row, None if url is None else _PLACE)
        around = line.split(_PLACE.encode())
        if url is None:
            parts.append(line)
        elif len(around) == 2:
            parts += [around[0], *url, around[1]]
        else:
            # The text itself holds the character.
            parts.append(_line(prompt, row, b"".join(url).decode()))
    return parts


def _line(prompt: Prompt, row: Row, url: str | None) -> bytes:
    return orjson.dumps(_conversation(prompt, row, url), option=orjson.OPT_APPEND_NEWLINE)


def _image_url(row: Row) -> tuple[bytes, bytes] | None:
    """The URL of a row's image in two parts."""
    path = row["image"]
    if path is None:
        return None
    data, modified_ns = images.read_dated(path)
    # A file of the same size that nobody touched is the same, as git and rsync have it; hashing it would take longer
    # than all else that is done with an image that is fit.
    touched = modified_ns is None or (row["image_bytes"], row["image_modified_ns"]) != (len(data), modified_ns)
    if touched and hashlib.sha256(data).hexdigest() != row["image_sha256"]:
        message = f"{path}: the image of example {row['example_id']!r} changed since it was sampled; sample again"
        raise TrainingFileError(message)
    if row["image_fit"]:
        return images.data_url_parts(data, images.MIME_TYPES[row["image_format"]])
    return images.data_url_parts(*images.for_training(data))
