"""The only place that decides what is held out.

An example's split follows from the hash of the seed and its group alone, so it is the same in every run, on every
machine, and stays the same when data is added. Examples of one group always land together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np

from finetune_assets.dataset.table import Table, hashes
from finetune_assets.task import SPLITS, Sampling, Split

NOT_SAMPLED = -1


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that two splits share and must not."""

    kind: Literal["image_sha256", "group"]
    value: str
    splits: tuple[str, ...]
    """The splits it is in, sorted."""


def key(seed: int, name: str) -> int:
    """Hash a name under a seed: 64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big")


def places(keys: np.ndarray) -> np.ndarray:
    """Place keys in [0, 1): the first 53 bits as a fraction, uniform over names and fixed for a seed."""
    return (keys >> np.uint64(11)) / (1 << 53)


def assign(
    groups: np.ndarray, positions: np.ndarray, sampling: Sampling, labels: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Find the split of each example as its place in `SPLITS`, or `NOT_SAMPLED`.

    With shares, each split owns a fixed interval of positions as wide as its share, so the sizes come out near the
    shares, not exactly on them. With counts, each split owns an interval in proportion to its count and takes from
    it the groups that lie lowest, label by label in the proportions of all examples, up to the count. When data is
    added an example may then enter or leave the sample, but it never changes its split.

    Args:
        groups: Number of each example's group, [n].
        positions: Place of that group (`places` of its `key`), [n].
        sampling: The share or count of each split.
        labels: Number of each example's label in `names`, for the proportions; used with counts only. [n]
        names: The labels.
    """
    owners = np.searchsorted(_bounds(sampling), positions, side="right").astype(np.int8)
    owners[owners == len(SPLITS)] = NOT_SAMPLED
    if not sampling.by_count:
        return owners
    proportions = np.bincount(labels, minlength=len(names))
    drawn = np.full(len(groups), NOT_SAMPLED, np.int8)
    order = np.lexsort((groups, positions))
    for split, count in enumerate(sampling.amounts.values()):
        candidates = order[owners[order] == split]
        quotas = _quotas(proportions, names, int(count))
        drawn[_filled(candidates, groups[candidates], labels[candidates], quotas, int(count))] = split
    return drawn


def leaks(table: Table) -> list[Leak]:
    """List every image hash and group that is in two splits of the table; nothing if the splits are clean."""
    found: list[Leak] = []
    kinds: tuple[Literal["image_sha256", "group"], ...] = ("image_sha256", "group")
    for kind in kinds:
        suspects = _in_two_splits(table, kind)
        shared: dict[str, set[str]] = {}
        for chunk in table.chunks([kind, "split"]) if len(suspects) else ():
            rows = chunk.dropna()
            for value, split in rows.loc[np.isin(hashes(rows.filter([kind])), suspects)].itertuples(index=False):
                shared.setdefault(value, set()).add(split)
        found += [Leak(kind, value, tuple(sorted(shared[value]))) for value in sorted(shared) if len(shared[value]) > 1]
    return found


def groups_by_split(table: Table) -> dict[Split, int]:
    """Count the groups in each split of a table."""
    seen: dict[Split, set[int]] = {split: set() for split in SPLITS}
    for chunk in table.chunks(["group", "split"]):
        rows = chunk.dropna()
        for split, keys in zip(rows["split"], hashes(rows.filter(["group"])).tolist(), strict=True):
            seen[split].add(keys)
    return {split: len(keys) for split, keys in seen.items()}


def _in_two_splits(table: Table, column: str) -> np.ndarray:
    """Hashes of the values that occur in more than one split."""
    values, split = np.empty(len(table), np.uint64), np.empty(len(table), np.int8)
    n = 0
    for chunk in table.chunks([column, "split"]):
        rows = chunk.dropna()
        values[n : n + len(rows)] = hashes(rows.filter([column]))
        split[n : n + len(rows)] = [SPLITS.index(name) for name in rows["split"]]
        n += len(rows)
    order = np.argsort(values[:n])
    values, split = values[order], split[order]
    # Equal values are neighbours now, and where they are in two splits some neighbours differ.
    return np.unique(values[1:][(values[1:] == values[:-1]) & (split[1:] != split[:-1])])


def _bounds(sampling: Sampling) -> list[float]:
    """Upper end of each split's interval, in the order of `SPLITS`."""
    amounts = list(sampling.amounts.values())
    total = sum(amounts) if sampling.by_count else 1
    return [upper / total for upper in accumulate(amounts)]


def _filled(
    candidates: np.ndarray, groups: np.ndarray, labels: np.ndarray, quotas: np.ndarray, count: int
) -> np.ndarray:
    """Take the lowest groups that fit the labels' quotas, then the lowest others that still fit the count.

    Args:
        candidates: Rows in the order of their groups' positions, [m].
        groups: Their groups, [m].
        labels: Their labels, [m].
        quotas: Most rows of each label.
        count: Most rows in all.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    ends = np.append(starts, len(groups))[1:]
    taken = np.zeros(len(candidates), bool)
    room, total = quotas.copy(), 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if total == count:
            break
        wanted = np.bincount(labels[start:end], minlength=len(room))
        if (wanted <= room).all():
            taken[start:end] = True
            room -= wanted
            total += end - start
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if not taken[start] and total + end - start <= count:
            taken[start:end] = True
            total += end - start
    return candidates[taken]


def _quotas(proportions: np.ndarray, names: Sequence[str], count: int) -> np.ndarray:
    """`count` divided among the labels in proportion, the largest remainders rounded up (Hamilton's method)."""
    exact = count * proportions / max(int(proportions.sum()), 1)
    quotas = np.floor(exact).astype(int)
    by_remainder = sorted(np.flatnonzero(proportions).tolist(), key=lambda n: (quotas[n] - exact[n], names[n]))
    if by_remainder:
        quotas[by_remainder[: count - int(quotas.sum())]] += 1
    return quotas
