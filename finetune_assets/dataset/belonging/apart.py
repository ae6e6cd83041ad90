"""Looks at finished splits: whether anything that belongs together stands in two of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finetune_assets.dataset.belonging.groups import UNKNOWN
from finetune_assets.dataset.belonging.near_texts import text_keys
from finetune_assets.dataset.shown import shown
from finetune_assets.dataset.table import Table, hashes, records
from finetune_assets.task import SPLITS

KINDS = ("image_sha256", "look", "group", "text")
"""What two splits must not share: an image, the look of one, a group, and where there is no image what a text says."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that two splits share and must not."""

    kind: str
    """One of `KINDS`."""
    value: str
    """The image's hash, the group's name, or the first such text."""
    splits: tuple[str, ...]
    """The splits it is in, sorted."""


def leaks(table: Table, near: bool = True) -> list[Leak]:
    """List all that is in two splits of the table; nothing if the splits are clean.

    Args:
        table: Examples with the columns `image_sha256`, `pictures`, `look`, `group`, `question`, `system` and `split`.
        near: Whether look-alikes and near-equal texts count too.
    """
    found: list[Leak] = []
    for kind in KINDS if near else ("image_sha256", "group"):
        suspects = _in_two_splits(table, kind)
        shared: dict[int, tuple[str, set[str]]] = {}
        for values, rows in _values(table, kind) if len(suspects) else ():
            chosen = np.flatnonzero(np.isin(values, suspects))
            words = rows["question" if kind == "text" else kind].iloc[chosen]
            for value, word, split in zip(values[chosen].tolist(), words, rows["split"].iloc[chosen], strict=True):
                shared.setdefault(value, (str(word), set()))[1].add(split)
        leaked = sorted((word, tuple(sorted(splits))) for word, splits in shared.values() if len(splits) > 1)
        found += [Leak(kind, word, splits) for word, splits in leaked]
    return found


def _values(table: Table, kind: str) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Hashes of one kind of all rows that have it and are in a split, with the rows."""
    if kind != "text":
        several = ["pictures"] if kind == "image_sha256" else []
        for chunk in table.chunks([kind, "split", *several]):
            rows = _each_image(chunk) if several else chunk.dropna()
            yield hashes(rows.filter([kind])), rows
        return
    for chunk in table.chunks(["question", "system", "image_sha256", "split"]):
        rows = chunk.loc[chunk["split"].notna() & chunk["image_sha256"].isna()]
        systems = rows["system"].astype(object).where(rows["system"].notna(), None)
        values = text_keys(list(rows["question"].fillna("")), list(systems))
        yield values[values != UNKNOWN], rows.loc[values != UNKNOWN]


def _each_image(chunk: pd.DataFrame) -> pd.DataFrame:
    """One row for each image of an example that says something about it, with its split."""
    rows = chunk.filter(["image_sha256", "split"]).dropna()
    several = chunk["pictures"].notna() & chunk["split"].notna()
    if several.to_numpy().any():
        seen = [
            (image.sha256, row["split"])
            for row in records(chunk.loc[several])
            for image in shown(row)
            if not image.reference
        ]
        return pd.concat([rows.loc[~several[rows.index]], pd.DataFrame(seen, columns=pd.Index(list(rows)))])
    return rows


def _in_two_splits(table: Table, kind: str) -> np.ndarray:
    """Hashes of the values that occur in more than one split."""
    parts = [
        (found, np.array([SPLITS.index(name) for name in rows["split"]], np.int8))
        for found, rows in _values(table, kind)
    ]
    all_values, all_splits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(all_values)
    values, split = all_values[order], all_splits[order]
    # Equal values are neighbours now, and where they are in two splits some neighbours differ.
    return np.unique(values[1:][(values[1:] == values[:-1]) & (split[1:] != split[:-1])])
