"""From clean examples to the JSONL file that a provider trains on.

The same examples always give the same bytes, because providers and our own pipeline recognise a file by its hash.
The file appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonlines
import orjson
from upath import UPath

from finetune_assets.dataset import images
from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.errors import TrainingFileError
from finetune_assets.task import Prompt, Split
from finetune_assets.training_file.chat_format import to_messages

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BuiltFile", "JsonProblem", "build", "lines"]

_ROWS_AT_ONCE = 32
_THREADS = 2


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A finished training file. `sha256` is hexadecimal."""

    path: UPath
    sha256: str
    n_examples: int
    bytes: int


def build(frame: pd.DataFrame, prompt: Prompt, split: Split, path: str | Path | UPath) -> BuiltFile:
    """Write one split of the clean examples, one conversation a line, in the order of the frame.

    Images are inlined as providers take them. Only a few rows are in memory at a time, whatever the file's size.

    Args:
        frame: Clean examples, columns as `dataset.sampling.DTYPES`.
        prompt: The task's prompt.
        split: Which rows to write.
        path: Any fsspec location; its folder is made where it does not exist.

    Raises:
        ImageError: an image has disappeared or broken since it was sampled.
        TrainingFileError: an image has other bytes than those that were sampled.
    """
    target = UPath(path)
    rows = frame.loc[frame["split"] == split, ["example_id", "question", "answer", "image", "image_sha256"]]
    with _replacing(target) as file, ThreadPoolExecutor(_THREADS) as pool:
        hashing = _HashingWriter(file)
        writer = jsonlines.Writer(hashing, dumps=orjson.dumps)  # pyright: ignore[reportCallIssue]
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            batch = rows.iloc[start : start + _ROWS_AT_ONCE].to_dict("records")
            for row, url in zip(batch, pool.map(_image_url, batch), strict=True):
                writer.write({"messages": to_messages(prompt, row["question"], url, row["answer"])})
    return BuiltFile(target, hashing.sha256.hexdigest(), len(rows), hashing.n_bytes)


class _HashingWriter(io.RawIOBase):
    """Passes bytes on to a file and hashes them on the way."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0

    def write(self, data: Any, /) -> int:
        self.sha256.update(data)
        self.n_bytes += len(data)
        return self._file.write(data)


def _image_url(row: dict[str, Any]) -> str | None:
    path = row["image"]
    if not isinstance(path, str):
        return None
    data = images.read(path)
    if hashlib.sha256(data).hexdigest() != row["image_sha256"]:
        message = f"{path}: the image of example {row['example_id']!r} changed since it was sampled; sample again"
        raise TrainingFileError(message)
    return images.data_url(*images.for_training(data))


@contextmanager
def _replacing(path: UPath) -> Iterator[Any]:
    """Open a binary file that takes its place under `path` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        if isinstance(path, Path):
            Path(str(temporary)).replace(path)
        else:
            path.fs.mv(temporary.path, path.path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
