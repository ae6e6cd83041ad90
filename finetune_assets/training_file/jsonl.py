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

import orjson
import pyarrow as pa
from upath import UPath

from finetune_assets.dataset import images
from finetune_assets.dataset.image_store import digest_of
from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.dataset.shown import Shown, shown
from finetune_assets.dataset.table import Table, records, replacing
from finetune_assets.errors import TrainingFileError
from finetune_assets.task import Prompt, Split
from finetune_assets.task.answers import Answer, CallAnswer
from finetune_assets.training_file import line_template
from finetune_assets.training_file.answer_grader import FIELD
from finetune_assets.training_file.chat_format import to_messages
from finetune_assets.training_file.line_template import LineTemplate, joined

__all__ = ["BuiltFile", "JsonProblem", "build", "lines"]

_COLUMNS = [
    "example_id",
    *line_template.COLUMNS,
    *(f"image_{name}" for name in ("sha256", "bytes", "modified_ns", "width", "height", "format", "fit")),
    "pictures",
]
_CHUNK_ROWS = 5_000
_PICTURED_ROWS = 1_000
"""Of a chunk with images so many are held as lines at once; texts are faster in large pieces."""

Row = dict[str, Any]
Url = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A finished training file."""

    path: UPath
    n_examples: int
    bytes: int


def build(
    table: Table,
    prompt: Prompt,
    split: Split,
    path: str | Path | UPath,
    threads: int | None = None,
    *,
    answered: Answer | None = None,
    graded: bool = False,
) -> BuiltFile:
    """Write one split of the clean examples, one conversation a line, in the order of the table.

    Images are inlined as providers take them.

    Args:
        table: Clean examples, columns as `dataset.sampling.DTYPES`.
        prompt: The task's prompt.
        split: Which rows to write.
        path: Any fsspec location; its folder is made where it does not exist.
        threads: Threads that work on images; None is one for each core.
        answered: The task's kind of answer; where it is a call, lines declare what may be called.
        graded: Whether lines are prompts, with the right answer beside them for a grader (reinforcement).

    Raises:
        ImageError: an image has disappeared or broken since it was sampled.
        TrainingFileError: an image has other bytes than those that were sampled.
    """
    target = UPath(path)
    template, n_examples = LineTemplate(prompt, graded=graded), 0
    threads = threads or os.cpu_count() or 1
    with replacing(target) as file, ThreadPoolExecutor(threads) as pool:
        for rows in _in_pieces(table.batches(_COLUMNS, split, _CHUNK_ROWS)):
            n_examples += len(rows)
            if isinstance(answered, CallAnswer):
                file.writelines(part for row in rows.to_pylist() for part in _line(row, prompt, answered))
                continue
            before, after = template.around_images(rows)
            if rows["image"].null_count == len(rows):
                file.write(joined(before))
                continue
            several = rows["pictures"].is_valid().to_pylist()
            parts = _parts(pool, rows.to_pylist(), 2 * threads, partial(_line, prompt=prompt, graded=graded), prompt)
            for whole, head, part, tail in zip(several, before.to_pylist(), parts, after.to_pylist(), strict=True):
                file.writelines(part if whole else (head, *part, tail))
        n_bytes = file.tell()
    return BuiltFile(target, n_examples, n_bytes)


def _in_pieces(chunks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for rows in chunks:
        at_once = len(rows) if rows["image"].null_count == len(rows) else _PICTURED_ROWS
        yield from (rows.slice(begin, at_once) for begin in range(0, len(rows), max(at_once, 1)))


def _parts(
    pool: ThreadPoolExecutor, rows: Iterable[Row], ahead: int, line: Callable[[Row], Url], prompt: Prompt
) -> Iterator[Url]:
    """The URL of each row's image in order, those that take time made a few ahead of whoever takes them.

    Of a row with several images it is the whole line.
    """
    started: deque[Callable[[], Url]] = deque()
    for row in rows:
        # Bytes that pass through are on their way to the file before another thread has taken notice of them.
        at_once = row["image"] is None or (row["image_fit"] and row["image_modified_ns"] is not None)
        made = partial(line, row) if row["pictures"] else partial(_image_url, row, prompt)
        started.append(made if at_once and not row["pictures"] else pool.submit(made).result)
        if len(started) > ahead:
            yield started.popleft()()
    while started:
        yield started.popleft()()


def _line(row: Row, prompt: Prompt, answered: CallAnswer | None = None, *, graded: bool = False) -> Url:
    """The line of a row with several images, or with a call."""
    urls = [(b"".join(inlined(image, row["example_id"], prompt.detail)).decode(), image.label) for image in shown(row)]
    said = None if graded else row["answer"]
    messages = to_messages(prompt, row["question"], urls, said, system=row["system"], answered=answered)
    beside = {FIELD: row["answer"]} if graded else {} if answered is None else {"tools": answered.declared}
    return (orjson.dumps({"messages": messages} | beside, option=orjson.OPT_APPEND_NEWLINE),)


def _image_url(row: Row, prompt: Prompt) -> Url:
    """The URL of a row's image in two parts; none without an image."""
    return next((inlined(image, row["example_id"], prompt.detail) for image in shown(row)), ())


def inlined(image: Shown, example: str, detail: str) -> Url:
    """Make the URL of an image in two parts, as a provider takes it.

    Raises:
        ImageError: it has disappeared or broken since it was sampled.
        TrainingFileError: it has other bytes than those that were sampled.
    """
    path = image.image
    data, modified_ns = images.read_dated(path)
    # A file of the same size that nobody touched is the same, as git and rsync have it; hashing it would take longer
    # than all else that is done with an image that is fit.
    touched = modified_ns is None or (image.bytes, image.modified_ns) != (len(data), modified_ns)
    if touched and hashlib.sha256(data).hexdigest() != (digest_of(path) or image.sha256):
        message = f"{path}: the image of example {example!r} changed since it was sampled; sample again"
        raise TrainingFileError(message)
    if image.fit:
        return images.data_url_parts(data, images.MIME_TYPES[image.format])
    return images.data_url_parts(*images.for_training(data, detail))


def references(table: Table, prompt: Prompt) -> Iterator[bytes]:
    """Stream the images that clean examples show for comparison alone, each once, as they stand in the files."""
    seen: set[str] = set()
    for chunk in table.chunks(["pictures"]):
        for row in records(chunk.dropna()):
            for image in shown(row):
                if image.reference and image.sha256 not in seen:
                    seen.add(image.sha256)
                    data = images.read(image.image)
                    yield data if image.fit else images.for_training(data, prompt.detail)[0]
