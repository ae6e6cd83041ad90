"""From a source's examples to one table: image facts, groups and splits. Problem rows are carried along.

Every image is decoded once here, so that what is broken is known before anything is paid for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd

from finetune_assets.dataset import images
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.splits import assign
from finetune_assets.errors import ImageError
from finetune_assets.task import Sampling

DTYPES = {
    "example_id": "str",
    "region": "str",
    "split": "str",
    "group": "str",
    "question": "str",
    "answer": "str",
    "score": "float64",
    "image": "str",
    "image_sha256": "str",
    "image_bytes": "Int64",
    "image_width": "Int64",
    "image_height": "Int64",
    "image_mode": "str",
    "doubt": "str",
    "problem": "str",
    "detail": "str",
    "source": "str",
    "line": "Int64",
}
"""Columns of the sampled and the clean examples and their pandas types. Where there is no value it is missing
(`isna`): `split` of a row with a problem, `answer` and `score` without a label, `image_*` without an image."""
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """The sampled examples of a region, and how many the source had."""

    frame: pd.DataFrame
    """One row per sampled example and per row with a problem; columns as in `DTYPES`."""
    n_source: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What looking at an example's image told; all None without an image, `error` where it failed."""

    n_bytes: int | None = None
    facts: images.ImageFacts | None = None
    error: ImageError | None = None


def sample(examples: Iterable[Example], sampling: Sampling) -> Sample:
    """Look at each example's image, group the examples, and draw the splits.

    The group is the example's own, else its image's hash, else its id; examples with identical images are of one
    group whatever the source says. Rows with a problem, from the source or the image, are in the frame without a
    split; of the others those that are in no split are left out.
    """
    rows = list(examples)
    looks = _looks(rows)
    groups = merged_groups(rows, [look.facts.sha256 if look.facts else None for look in looks])
    usable = [row.problem is None and look.error is None for row, look in zip(rows, looks, strict=True)]
    drawn = iter(
        assign(
            [group for group, is_usable in zip(groups, usable, strict=True) if is_usable],
            sampling,
            [row.answer for row, is_usable in zip(rows, usable, strict=True) if is_usable],
        )
    )
    records = [
        _record(row, look, group, next(drawn) if is_usable else None)
        for row, look, group, is_usable in zip(rows, looks, groups, usable, strict=True)
    ]
    kept = [record for record in records if record["split"] is not None or record["problem"] is not None]
    return Sample(pd.DataFrame(kept, columns=list(DTYPES)).astype(DTYPES), len(rows))


def merged_groups(rows: Sequence[Example], hashes: Sequence[str | None]) -> list[str]:
    """Name each row's group; groups that share an identical image are one, under the smallest of their names.

    Args:
        rows: Examples.
        hashes: Hash of each row's image, or None.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while (parent := parents.setdefault(name, name)) != name:
            parents[name] = name = parents[parent]
        return name

    owners: dict[str, str] = {}
    names = [row.group or sha256 or row.id for row, sha256 in zip(rows, hashes, strict=True)]
    for name, sha256 in zip(names, hashes, strict=True):
        if sha256 is not None:
            first, second = sorted((root(owners.setdefault(sha256, name)), root(name)))
            parents[second] = first
    return [root(name) for name in names]


def _looks(rows: Sequence[Example]) -> list[_Look]:
    """Look at the image of each row that has no problem yet; one that several rows share is looked at once."""
    paths = list(dict.fromkeys(row.image for row in rows if row.image is not None and row.problem is None))
    with ThreadPoolExecutor(_THREADS) as pool:
        by_path = dict(zip(paths, pool.map(_look, paths), strict=True))
    return [by_path.get(row.image or "", _Look()) if row.problem is None else _Look() for row in rows]


def _look(path: str) -> _Look:
    data = b""
    try:
        data = images.read(path)
        return _Look(len(data), images.inspect(data))
    except ImageError as error:
        return _Look(len(data) or None, error=error)


def _record(row: Example, look: _Look, group: str, split: str | None) -> dict[str, object]:
    facts = look.facts
    return {
        "example_id": row.id,
        "region": row.region,
        "split": split,
        "group": group,
        "question": row.question,
        "answer": row.answer,
        "score": row.score,
        "image": row.image,
        "image_sha256": facts.sha256 if facts else None,
        "image_bytes": look.n_bytes,
        "image_width": facts.width if facts else None,
        "image_height": facts.height if facts else None,
        "image_mode": facts.mode if facts else None,
        "doubt": row.doubt,
        "problem": look.error.reason if look.error else row.problem,
        "detail": look.error.detail if look.error else row.detail,
        "source": row.source,
        "line": row.line,
    }
