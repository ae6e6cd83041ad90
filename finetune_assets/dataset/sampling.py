"""From a source's examples to one table: image facts, groups and splits. Problem rows are carried along.

Two passes, so that a region may be larger than memory. The first streams the source, looks at every image (so that
what is broken is known before anything is paid for) and writes the rows to a scratch file without a name, which
vanishes with the process; of each row some 50 bytes of hashes stay in memory. These decide on groups and splits, and
the second pass writes the table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from upath import UPath

from finetune_assets.dataset import near_duplicates, splits
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.groups import UNKNOWN, Groups, linked
from finetune_assets.dataset.identity import example_id
from finetune_assets.dataset.image_addresses import ImageAddresses
from finetune_assets.dataset.image_looks import Look, Looker
from finetune_assets.dataset.image_store import ImageStore
from finetune_assets.dataset.images import ImageFacts
from finetune_assets.dataset.pixels.window import Window
from finetune_assets.dataset.table import Table, TableWriter, read_chunks, writing
from finetune_assets.task import SPLITS, Sampling

DTYPES = {
    "example_id": "str",
    "region": "str",
    "split": "str",
    "group": "str",
    "subgroup": "str",
    "system": "str",
    "question": "str",
    "answer": "str",
    "score": "float64",
    "image": "str",
    "image_sha256": "str",
    "image_bytes": "Int64",
    "image_modified_ns": "Int64",
    "image_width": "Int64",
    "image_height": "Int64",
    "image_mode": "str",
    "image_format": "str",
    "image_fit": "boolean",
    "image_bits": "Int64",
    "image_low": "float64",
    "image_high": "float64",
    "image_range": "str",
    "image_contrast": "Int64",
    "doubt": "str",
    "problem": "str",
    "detail": "str",
    "source": "str",
    "line": "Int64",
}
"""Columns of the sampled examples and their pandas types. Where there is no value it is missing
(`isna`): `split` of a row with a problem, `answer` and `score` without a label, `image_*` without an image,
`system` where the prompt's own holds. `image` is where the image is read from; `image_sha256` is of the bytes that the
source names, of which a stored copy in 8 bits may be what is read. `image_fit`: a provider takes the image's bytes as
they are. `image_bits`, `image_low`, `image_high`, `image_range`: of an image of more than 8 bits, which stored values
are its black and white, and who said so (`pixels.window.Scale`). `image_contrast`: as `ImageFacts.contrast`."""
_CHUNK_ROWS = 10_000
_CHUNK_BYTES = 64 << 20
"""Of images that a source holds inside."""
_NO_LINKS = (np.empty(0, int), np.empty(0, int))


@dataclass(frozen=True, slots=True)
class Sample:
    """The sampled examples of a region, and what was seen on the way."""

    table: Table
    """One row per sampled example and per row with a problem; columns as in `DTYPES`."""
    n_source: int
    """Rows of the source."""
    n_usable: int
    """Of these, the rows without a problem, from which the splits are drawn."""
    n_near_duplicates: int
    """Images that look like an earlier one and share its group, though their bytes differ."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What stays in memory of the rows of the source, an array of [n] each."""

    group: np.ndarray
    """Hash of the seed and the name of the group, from which the split follows."""
    image: np.ndarray
    """Hash of the image, or `UNKNOWN`."""
    thumbnail: np.ndarray
    """Number of the image's thumbnail, or -1."""
    name: np.ndarray
    """Hash of the id."""
    label: np.ndarray
    """Number of the answer among the labels, beyond them where it is none."""
    usable: np.ndarray
    """Whether the row has no problem."""

    @classmethod
    def of(cls, rows: Sequence[Example], looks: Sequence[Look], seed: int, labels: Sequence[str]) -> _Rows:
        codes = {label: code for code, label in enumerate(labels)}
        facts = [look.facts for look in looks]
        named = zip(rows, facts, strict=True)
        return cls(
            group=np.array([splits.key(seed, _group(row, fact)) for row, fact in named], np.uint64),
            image=np.array([int(fact.sha256[:16], 16) if fact else UNKNOWN for fact in facts], np.uint64),
            thumbnail=np.array([look.thumbnail for look in looks], np.int32),
            name=np.array([splits.key(seed, row.id) for row in rows], np.uint64),
            label=np.array([codes.get(row.answer or "", len(labels)) for row in rows], np.int16),
            usable=np.array(
                [row.problem is None and look.error is None for row, look in zip(rows, looks, strict=True)], bool
            ),
        )


def sample(
    examples: Iterable[Example],
    sampling: Sampling,
    path: UPath,
    *,
    labels: Sequence[str] = (),
    look_alikes: bool = True,
    addresses: ImageAddresses | None = None,
    window: Window | None = None,
    say: Callable[[str], object] | None = None,
) -> Sample:
    """Look at each example's image, group the examples, draw the splits, and write the table.

    The group is the example's own, else its image's hash, else its id; examples with identical images, or images that
    look the same, are of one group whatever the source says, under the smallest of their names. Rows with a problem,
    from the source or the image, are in the table without a split; of the others those that are in no split are left
    out. Where a source repeats an id, the later examples' ids end in `#2`, `#3` and so on.

    Args:
        examples: Examples in the order of the source.
        sampling: The share or count of each split.
        path: Where the table is written.
        labels: The answers whose proportions the splits keep where they are drawn by count.
        look_alikes: Whether images that look the same share a group (`near_duplicates`).
        addresses: Reads the images, and keeps those that have no file of their own; by default in `images` beside the
            table.
        window: The range of stored values in which images of more than 8 bits are shown.
        say: Is told now and then how far it is.
    """
    addresses = addresses or ImageAddresses(ImageStore(path.parent / "images"))
    with tempfile.TemporaryFile() as scratch, tempfile.TemporaryFile() as thumbnails:
        with Looker(thumbnails, addresses, window, say) as looker:
            rows = _first_pass(examples, scratch, looker, sampling.seed, labels)
        alike = _look_alikes(rows, thumbnails) if look_alikes else _NO_LINKS
        groups = Groups(rows.group, [linked(rows.image), alike])
        groups.name_merged(read_chunks(scratch, ["group"]))
        split = _drawn(rows, groups, sampling, labels)
        times_seen = _times_seen(rows.name)
        with writing(path, DTYPES) as table:
            for chunk in read_chunks(scratch):
                table.write(_completed(chunk, groups, split, times_seen))
    return Sample(Table(path), len(split), int(rows.usable.sum()), len(alike[0]))


def _first_pass(examples: Iterable[Example], scratch: Any, looker: Looker, seed: int, labels: Sequence[str]) -> _Rows:
    """Write all rows to the scratch file, their images looked at, and return what stays in memory."""
    parts: list[_Rows] = [_Rows.of([], [], seed, labels)]
    with TableWriter(scratch, DTYPES) as table:
        for rows in _chunks(examples):
            looks = looker.looks(rows)
            rows = [_identified(row, look) for row, look in zip(rows, looks, strict=True)]
            table.write(_records(rows, looks))
            parts.append(_Rows.of(rows, looks, seed, labels))
    return _Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _Rows.__slots__})


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """As many examples at a time as there is memory for with the images that they hold inside."""
    chunk: list[Example] = []
    n_bytes = 0
    for example in examples:
        chunk.append(example)
        n_bytes += len(example.image) if isinstance(example.image, bytes) else 0
        if len(chunk) == _CHUNK_ROWS or n_bytes > _CHUNK_BYTES:
            yield chunk
            chunk, n_bytes = [], 0
    if chunk:
        yield chunk


def _look_alikes(rows: _Rows, thumbnails: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pair the rows of images that look the same: the first of each cluster with the others."""
    pictured = np.flatnonzero(rows.thumbnail >= 0)
    # One row stands for all that have the same image.
    _, firsts = np.unique(rows.image[pictured], return_index=True)
    pictured = pictured[np.sort(firsts)]
    if not len(pictured):
        return _NO_LINKS
    first = near_duplicates.clusters(thumbnails, rows.thumbnail[pictured])
    later = np.flatnonzero(first != np.arange(len(pictured)))
    return pictured[first[later]], pictured[later]


def _drawn(rows: _Rows, groups: Groups, sampling: Sampling, labels: Sequence[str]) -> np.ndarray:
    """The split of each row as its place in `SPLITS`, [n]; rows with a problem are in none."""
    usable = rows.usable
    positions = groups.position(sampling.seed)[usable]
    split = np.full(len(usable), splits.NOT_SAMPLED, np.int8)
    split[usable] = splits.assign(groups.of_row[usable], positions, sampling, rows.label[usable], [*labels, "None"])
    return split


def _times_seen(names: np.ndarray) -> np.ndarray:
    """How often each row's name occurred before it, [n]."""
    order = np.argsort(names, kind="stable")
    starts = np.flatnonzero(np.diff(names[order], prepend=~names[order[:1]]))
    within = np.arange(len(names)) - np.repeat(starts, np.diff(starts, append=len(names)))
    result = np.empty(len(names), np.int32)
    result[order] = within
    return result


def _completed(chunk: pd.DataFrame, groups: Groups, split: np.ndarray, times_seen: np.ndarray) -> pd.DataFrame:
    """The rows of a chunk that are kept, with their split, merged group and unique id."""
    at = chunk.index
    names = np.array([*SPLITS, None], object)
    chunk["split"] = names[split[at]]
    merged, repeated = groups.is_merged[at], times_seen[at] > 0
    if merged.any():
        chunk.loc[merged, "group"] = [groups.names[group] for group in groups.of_row[at[merged]].tolist()]
    if repeated.any():
        numbers = pd.Series(times_seen[at[repeated]] + 1, at[repeated])
        chunk.loc[repeated, "example_id"] += "#" + numbers.astype("str")
    return chunk.loc[chunk["split"].notna() | chunk["problem"].notna()]


def _identified(row: Example, look: Look) -> Example:
    """The example with an id: that of its source, else one of what it shows."""
    if row.id:
        return row
    if look.facts is None:
        return replace(row, id=f"{PurePath(row.source).name}:{row.line}")
    return replace(row, id=example_id(row.region, row.question, row.system, look.facts.sha256))


def _group(row: Example, facts: ImageFacts | None) -> str:
    return row.group or (facts.sha256 if facts else None) or row.id


def _records(rows: Sequence[Example], looks: Sequence[Look]) -> pd.DataFrame:
    facts = [look.facts for look in looks]
    seen = list(zip(rows, looks, strict=True))
    columns: dict[str, list[Any]] = {
        "example_id": [row.id for row in rows],
        "group": [_group(row, fact) for row, fact in zip(rows, facts, strict=True)],
        "image": [look.address or (row.image if isinstance(row.image, str) else None) for row, look in seen],
        "image_bytes": [look.n_bytes for look in looks],
        "image_modified_ns": [look.modified_ns for look in looks],
        "problem": [look.error.reason if look.error else row.problem for row, look in seen],
        "detail": [look.error.detail if look.error else row.detail for row, look in seen],
    }
    for name in ("region", "subgroup", "system", "question", "answer", "score", "doubt", "source", "line"):
        columns[name] = [getattr(row, name) for row in rows]
    for name in ("sha256", "width", "height", "mode", "format", "fit", "contrast"):
        columns[f"image_{name}"] = [getattr(fact, name) if fact else None for fact in facts]
    scales = [fact.scale if fact else None for fact in facts]
    for column, name in (("bits", "bits"), ("low", "low"), ("high", "high"), ("range", "by")):
        columns[f"image_{column}"] = [getattr(scale, name) if scale else None for scale in scales]
    return pd.DataFrame(columns)
