"""From clean examples to the JSONL file that a provider trains on.

The same examples always give the same bytes, because providers and our own pipeline recognise a file by its hash.
The file appears under its name only when it is complete. Rows are read in chunks and images a few at a time, so that
memory stays flat; images are read and encoded on all cores, without Python's lock.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from upath import UPath

from finetune_assets.dataset import images
from finetune_assets.dataset.image_store import digest_of
from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.dataset.table import Table, replacing
from finetune_assets.errors import TrainingFileError
from finetune_assets.task import Prompt, Split
from finetune_assets.training_file import line_template
from finetune_assets.training_file.line_template import LineTemplate, joined

__all__ = ["BuiltFile", "JsonProblem", "build", "lines"]

_COLUMNS = [
    "example_id",
    *line_template.COLUMNS,
    "image_sha256",
    "image_bytes",
    "image_modified_ns",
    "image_format",
    "image_fit",
]
_CHUNK_ROWS = 5_000

Row = dict[str, Any]
Url = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A finished training file."""

    path: UPath
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
    template, n_examples = LineTemplate(prompt), 0
    threads = threads or os.cpu_count() or 1
    with replacing(target) as file, ThreadPoolExecutor(threads) as pool:
        for rows in table.batches(_COLUMNS, split, _CHUNK_ROWS):
            n_examples += len(rows)
            before, after = template.around_images(rows)
            if rows["image"].null_count == len(rows):
                file.write(joined(before))
                continue
            urls = _urls(pool, rows.to_pylist(), 2 * threads, prompt.detail)
            for head, url, tail in zip(before.to_pylist(), urls, after.to_pylist(), strict=True):
                file.writelines((head, *url, tail))
        n_bytes = file.tell()
    return BuiltFile(target, n_examples, n_bytes)


def _urls(pool: ThreadPoolExecutor, rows: Iterable[Row], ahead: int, detail: str) -> Iterator[Url]:
    """The URL of each row's image in order, those that take time made a few ahead of whoever takes them."""
    started: deque[Callable[[], Url]] = deque()
    for row in rows:
        # Bytes that pass through are on their way to the file before another thread has taken notice of them.
        at_once = row["image"] is None or (row["image_fit"] and row["image_modified_ns"] is not None)
        started.append(partial(_image_url, row, detail) if at_once else pool.submit(_image_url, row, detail).result)
        if len(started) > ahead:
            yield started.popleft()()
    while started:
        yield started.popleft()()


def _image_url(row: Row, detail: str) -> Url:
    """The URL of a row's image in two parts; none without an image."""
    path = row["image"]
    if path is None:
        return ()
    data, modified_ns = images.read_dated(path)
    # A file of the same size that nobody touched is the same, as git and rsync have it; hashing it would take longer
    # than all else that is done with an image that is fit.
    touched = modified_ns is None or (row["image_bytes"], row["image_modified_ns"]) != (len(data), modified_ns)
    if touched and hashlib.sha256(data).hexdigest() != (digest_of(path) or row["image_sha256"]):
        message = f"{path}: the image of example {row['example_id']!r} changed since it was sampled; sample again"
        raise TrainingFileError(message)
    if row["image_fit"]:
        return images.data_url_parts(data, images.MIME_TYPES[row["image_format"]])
    return images.data_url_parts(*images.for_training(data, detail))
