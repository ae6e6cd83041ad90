"""From a source's examples to one table: image facts, groups and splits. Problem rows are carried along.

Two passes, so that a region may be larger than memory. The first streams the source, looks at every image (so that
what is broken is known before anything is paid for) and writes the rows to a scratch file without a name, which
vanishes with the process; of each row some 70 bytes of hashes stay in memory. These decide on groups and splits,
with what was drawn before, and the second pass writes the table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from upath import UPath

from finetune_assets.dataset.belonging import look_alikes
from finetune_assets.dataset.belonging.further_images import FurtherImages
from finetune_assets.dataset.belonging.memory import Memory
from finetune_assets.dataset.drawing import Draw, Pairs, Rows, group_of, looks_of, paired, published_words
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.identity import example_id
from finetune_assets.dataset.image_addresses import ImageAddresses
from finetune_assets.dataset.image_looks import NOTHING, Look, Looker
from finetune_assets.dataset.image_store import ImageStore
from finetune_assets.dataset.images import ImageFacts
from finetune_assets.dataset.pixels.window import Window
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.shown import Shown, all_sha256, with_references, written
from finetune_assets.dataset.table import Table, TableWriter, read_chunks, records, writing
from finetune_assets.errors import ImageError
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
    "image_original": "str",
    "pictures": "str",
    "look": "str",
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
are its black and white, and who said so (`pixels.window.Scale`). `image_contrast`: as `ImageFacts.contrast`.
`image_original`: of an image of more than 8 bits, where its own values are read from. `pictures`: of an example that
shows several images, all of them (`shown.Shown`); `image_*` are then of the one in question.
`look`: hash of the first of the images that look the same, where there are several."""
_OWN = ("region", "subgroup", "system", "question", "answer", "score", "doubt", "source", "line")
"""Columns that are an example's own fields."""
_CHUNK_ROWS = 2_500
_CHUNK_BYTES = 64 << 20
"""Of images that a source holds inside."""
_BRIDGE = "belongs to examples that were drawn into several splits before; in any of them it would leak"


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
    n_references: int
    """Images that are taken for shown for comparison alone, though the task does not say so (`further_images`)."""
    largest_group: tuple[str, int]
    """Name of the largest group of usable rows, and their number."""
    closeness: look_alikes.Closeness
    """How near the images of the test come to those that train."""
    n_test_trained: int
    """Examples of the test that have trained a model in an earlier draw, or belong to one that has."""
    drawn_before: str
    """How the splits were drawn the last time, where that was otherwise; "" where it holds."""
    published: str
    """What was cut out of published splits, in words; "" where none are published."""
    memory: Memory
    """What is to be remembered if these splits are used."""


def sample(
    examples: Iterable[Example],
    sampling: Sampling,
    path: UPath,
    *,
    labels: Sequence[str] = (),
    near: bool = True,
    memory: Memory | None = None,
    addresses: ImageAddresses | None = None,
    window: Window | None = None,
    say: Callable[[str], object] | None = None,
) -> Sample:
    """Look at each example's image, group the examples, draw the splits, and write the table.

    The group is the example's own, else its image's hash, else its id; examples with identical images, images that look
    the same, or texts that say the same are of one group whatever the source says, under the smallest of their names.
    Rows with a problem, from the source or the image, are in the table without a split; of the others those that are in
    no split are left out. What was drawn before keeps its split and what belongs to it joins it; a new row that belongs
    to several splits is set aside. Where a source repeats an id, the later examples' ids end in `#2`, `#3` and so on.

    Args:
        examples: Examples in the order of the source.
        sampling: The share or count of each split.
        path: Where the table is written.
        labels: The answers whose proportions the splits keep where they are drawn by count.
        near: Whether images that look the same (`look_alikes`) and texts that say the same (`near_texts`) are together.
        memory: What was drawn before.
        addresses: Reads the images, and keeps those that have no file of their own; by default in `images` beside the
            table.
        window: The range of stored values in which images of more than 8 bits are shown.
        say: Is told now and then how far it is.
    """
    memory = memory or Memory.empty()
    addresses = addresses or ImageAddresses(ImageStore(path.parent / "images"))
    with tempfile.TemporaryFile() as scratch, tempfile.TemporaryFile() as thumbnails:
        with Looker(thumbnails, addresses, window, say) as looker:
            rows, references = _first_pass(examples, scratch, looker, sampling.seed, labels, near)
        alike = paired(rows, thumbnails) if near else Pairs.none(rows.image)
        draw = Draw.of(rows, alike, scratch, sampling, labels, memory)
        own = rows.own
        times_seen = _times_seen(rows.name[own], rows.order[own])
        looks = looks_of(rows, alike, ~draw.bridging & own, scratch)
        with writing(path, DTYPES) as table:
            for chunk in read_chunks(scratch):
                table.write(_completed(chunk, draw, times_seen, looks, references))
        test, train = (
            np.unique(rows.thumbnail[(draw.split == SPLITS.index(name)) & (rows.thumbnail >= 0)])
            for name in ("test", "train")
        )
        closeness = look_alikes.closeness(thumbnails, test, train)
        largest = draw.largest_group(rows.usable & own, scratch)
    in_test = np.flatnonzero(draw.split == SPLITS.index("test"))
    trained = rows.owner[in_test[memory.has_trained(rows.known.at(in_test))]]
    in_a_split = draw.split >= 0
    return Sample(
        Table(path),
        n_source=int(own.sum()),
        n_usable=int((rows.usable & own).sum()),
        n_references=len(references),
        n_near_duplicates=alike.n_later,
        largest_group=largest,
        closeness=closeness,
        n_test_trained=len(np.unique(trained)),
        drawn_before="" if memory.holds_for(sampling) else memory.draw,
        published=published_words(rows),
        memory=memory.with_draw(rows.known.at(in_a_split), draw.split[in_a_split], sampling),
    )


def _first_pass(
    examples: Iterable[Example], scratch: Any, looker: Looker, seed: int, labels: Sequence[str], near: bool
) -> tuple[Rows, np.ndarray]:
    """Write all rows to the scratch file, their images looked at.

    Returns:
        What stays in memory, and hashes of images that are taken for references though the task does not say so.
    """
    parts: list[Rows] = [Rows.of([], [], seed, labels, near)]
    further, n_rows = list[FurtherImages](), 0
    with TableWriter(scratch, DTYPES) as table:
        for rows in _chunks(examples):
            looks, beside = _looked_at(rows, looker)
            rows = [_identified(*seen) for seen in zip(rows, looks, beside, strict=True)]
            table.write_columns(_columns(rows, looks, beside))
            parts.append(Rows.of(rows, looks, seed, labels, near))
            further.append(FurtherImages.of(rows, beside, n_rows))
            n_rows += len(rows)
    images = FurtherImages.joined(further)
    references = images.references()
    return Rows.joined(parts).with_further(images.tying(references), references), references


def _looked_at(rows: Sequence[Example], looker: Looker) -> tuple[list[Look], list[Sequence[Look]]]:
    """Look at the image in question of each row, and at all images of rows that show several.

    The first of them that cannot be used is the row's error.
    """
    if not any(row.image is not None or row.pictures for row in rows):
        return [NOTHING] * len(rows), [()] * len(rows)
    sound = [row.problem is None for row in rows]
    one = [row.image if fine and not row.pictures else None for row, fine in zip(rows, sound, strict=True)]
    several = [row.pictures if fine else () for row, fine in zip(rows, sound, strict=True)]
    seen = looker.looks([*one, *(picture.image for pictures in several for picture in pictures)])
    looks, rest = seen[: len(rows)], iter(seen[len(rows) :])
    # No list of its own for each row without: millions of empty ones would be the garbage collector's work.
    beside: list[Sequence[Look]] = [[next(rest) for _ in pictures] if pictures else () for pictures in several]
    for at, (row, of_row) in enumerate(zip(rows, beside, strict=True)):
        if of_row:
            looks[at] = _in_question(row, of_row)
    return looks, beside


def _in_question(row: Example, looks: Sequence[Look]) -> Look:
    for number, look in enumerate(looks, 1):
        if look.error is not None:
            error = ImageError(look.error.reason, f"image {number} of {len(looks)}: {look.error.detail}")
            return replace(look, error=error)
    return next(look for picture, look in zip(row.pictures, looks, strict=True) if picture.image == row.image)


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """As many examples at a time as there is memory for with the images that they hold inside."""
    chunk: list[Example] = []
    n_bytes = 0
    for example in examples:
        chunk.append(example)
        held = [picture.image for picture in example.pictures] or [example.image]
        n_bytes += sum(len(image) for image in held if isinstance(image, bytes))
        if len(chunk) == _CHUNK_ROWS or n_bytes > _CHUNK_BYTES:
            yield chunk
            chunk, n_bytes = [], 0
    if chunk:
        yield chunk


def _times_seen(names: np.ndarray, within_name: np.ndarray) -> np.ndarray:
    """How often each row's name occurred before it, in the order that is given within a name, [n]."""
    order = np.lexsort((within_name, names))
    starts = np.flatnonzero(np.diff(names[order], prepend=~names[order[:1]]))
    within = np.arange(len(names)) - np.repeat(starts, np.diff(starts, append=len(names)))
    result = np.empty(len(names), np.int32)
    result[order] = within
    return result


def _completed(
    chunk: pd.DataFrame, draw: Draw, times_seen: np.ndarray, looks: dict[int, str], references: np.ndarray
) -> pd.DataFrame:
    """The rows of a chunk that are kept, with their split, merged group and unique id, and references so called."""
    at, groups = chunk.index, draw.groups
    names = np.array([*SPLITS, None], object)
    chunk["split"] = names[draw.split[at]]
    chunk["look"] = pd.Series([looks.get(row) for row in at] if looks else None, at, dtype=object)
    chunk.loc[draw.bridging[at], ["problem", "detail"]] = [str(Reason.SPLITS_MEET), _BRIDGE]
    if len(references):
        named = {f"{reference:016x}" for reference in references.tolist()}
        chunk["pictures"] = [with_references(shown, named) for shown in records(chunk.filter(["pictures"]))]
    merged, repeated = groups.is_merged[at], times_seen[at] > 0
    if merged.any():
        chunk.loc[merged, "group"] = [groups.names[group] for group in groups.of_row[at[merged]].tolist()]
    if repeated.any():
        numbers = pd.Series(times_seen[at[repeated]] + 1, at[repeated])
        chunk.loc[repeated, "example_id"] += "#" + numbers.astype("str")
    return chunk.loc[chunk["split"].notna() | chunk["problem"].notna()]


def _identified(row: Example, look: Look, beside: Sequence[Look]) -> Example:
    """The example with an id: that of its source, else one of what it shows."""
    if row.id:
        return row
    if look.facts is None:
        return replace(row, id=f"{PurePath(row.source).name}:{row.line}")
    pictures = _pictures(row, beside)
    seen = all_sha256(pictures) if pictures else look.facts.sha256
    return replace(row, id=example_id(row.region, row.question, row.system, seen))


def _pictures(row: Example, looks: Sequence[Look]) -> str | None:
    """What `pictures` holds of a row; None where it shows no several images, or one of them cannot be used."""
    if not looks or any(look.error is not None for look in looks):
        return None
    return written(
        Shown(
            image=look.address or "",
            sha256=look.facts.sha256,
            bytes=look.n_bytes or 0,
            modified_ns=look.modified_ns,
            width=look.facts.width,
            height=look.facts.height,
            format=look.facts.format,
            fit=look.facts.fit,
            original=look.original,
            label=picture.label,
            reference=picture.is_reference,
        )
        for picture, look in zip(row.pictures, looks, strict=True)
        if look.facts is not None
    )


def _columns(rows: Sequence[Example], looks: Sequence[Look], beside: Sequence[Sequence[Look]]) -> dict[str, list[Any]]:
    facts = [look.facts for look in looks]
    seen = partial(zip, rows, looks, strict=True)
    columns: dict[str, list[Any]] = {
        "example_id": [row.id for row in rows],
        "group": [group_of(row, fact) for row, fact in zip(rows, facts, strict=True)],
        "image": [look.address or (row.image if isinstance(row.image, str) else None) for row, look in seen()],
        "image_bytes": [look.n_bytes for look in looks],
        "image_modified_ns": [look.modified_ns for look in looks],
        "image_original": [look.original for look in looks],
        "pictures": [_pictures(row, of_row) if of_row else None for row, of_row in zip(rows, beside, strict=True)],
        "problem": [look.error.reason if look.error else row.problem for row, look in seen()],
        "detail": [look.error.detail if look.error else row.detail for row, look in seen()],
    }
    columns |= {name: list(map(attrgetter(name), rows)) for name in _OWN}
    if any(facts):
        columns |= _of_images(facts)
    return columns


def _of_images(facts: Sequence[ImageFacts | None]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for name in ("sha256", "width", "height", "mode", "format", "fit", "contrast"):
        columns[f"image_{name}"] = [getattr(fact, name) if fact else None for fact in facts]
    scales = [fact.scale if fact else None for fact in facts]
    for column, name in (("bits", "bits"), ("low", "low"), ("high", "high"), ("range", "by")):
        columns[f"image_{column}"] = [getattr(scale, name) if scale else None for scale in scales]
    return columns
