"""The only place that decides what is held out.

A new example's split follows from the hash of the seed and its group, so it is the same on every machine. What was
drawn before keeps its split, and what belongs to it joins it (`belonging.memory`); what was published in a split stays
in it. Examples of one group always land together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np

from finetune_assets.dataset.table import Table, hashes
from finetune_assets.task import SPLITS, Sampling, Split

NOT_SAMPLED = -1


def key(seed: int, name: str) -> int:
    """Hash a name under a seed: 64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big")


def keys(seed: int, names: Iterable[str]) -> np.ndarray:
    """Hash many names as `key` does, [n]."""
    prefix = f"{seed}\0".encode()
    digests = [hashlib.blake2b(prefix + name.encode(), digest_size=8).digest() for name in names]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def places(keys: np.ndarray) -> np.ndarray:
    """Place keys in [0, 1): the first 53 bits as a fraction, uniform over names and fixed for a seed."""
    return (keys >> np.uint64(11)) / (1 << 53)


def owners(positions: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Find the split that owns each position: its place in `SPLITS`, or `NOT_SAMPLED`, [n].

    With shares, each split owns an interval as wide as its share, so the sizes come out near the shares, not exactly on
    them. With counts, each split owns an interval in proportion to its count.
    """
    found = np.searchsorted(_bounds(sampling), positions, side="right").astype(np.int8)
    found[found == len(SPLITS)] = NOT_SAMPLED
    return found


def stratified(positions: np.ndarray, groups: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Move the positions of groups so that those of each stratum lie evenly in [0, 1): its splits get their shares.

    Within a stratum the groups keep their order, and each lies where its part of the stratum's rows does, all shifted
    by one number that is as good as drawn (systematic sampling): a stratum of a single group stays where it was. A
    group is of the stratum that most of its rows are of, the first of several.

    Args:
        positions: Place of each row's group in [0, 1), [n].
        groups: Number of each row's group, [n].
        strata: Number of each row's stratum, [n].

    Returns:
        The new positions, [n]; those of a group are equal.
    """
    if not len(groups):
        return positions
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    place, size = positions[first], np.bincount(member)
    n_strata = int(strata.max()) + 1
    kinds, rows = np.unique(member.astype(np.int64) * n_strata + strata, return_counts=True)
    most = np.lexsort((kinds, -rows, kinds // n_strata))
    stratum = kinds[most][np.unique(kinds[most] // n_strata, return_index=True)[1]] % n_strata
    moved = np.empty(len(first))
    for each in np.unique(stratum):
        inside = np.flatnonzero(stratum == each)
        ordered = inside[np.argsort(place[inside], kind="stable")]
        shift = place[ordered].sum() % 1
        before = np.cumsum(size[ordered]) - size[ordered]
        moved[ordered] = (before + shift * size[ordered]) / size[ordered].sum()
    return np.minimum(moved, np.nextafter(1.0, 0.0))[member]


def as_published(published: np.ndarray, positions: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Find the split of rows that were published in one: their own, or one that is cut out of it, [n].

    A calibration that nobody published is cut out of the published validation, else out of train; validation and test
    out of train. What is cut follows the positions, in the proportions of the sampling.

    Args:
        published: Place in `SPLITS` of what each row was published in, [n].
        positions: Place of each row's group in [0, 1), [n].
        sampling: The share or count of each split.
    """
    found = np.empty(len(published), np.int8)
    amounts = np.array(list(sampling.amounts.values()), float)
    for split, parts in cut_out_of(published).items():
        rows = np.flatnonzero(published == split)
        bounds = np.cumsum(amounts[parts]) / amounts[parts].sum()
        found[rows] = np.array(parts, np.int8)[np.searchsorted(bounds[:-1], positions[rows], side="right")]
    return found


def cut_out_of(published: np.ndarray) -> dict[int, list[int]]:
    """Return the splits that are cut out of each published one, which come first; all by their places in `SPLITS`."""
    train, validation, calibration, test = range(len(SPLITS))
    there = np.unique(published).tolist()
    parts = {split: [split] for split in there}
    source = {validation: train, test: train, calibration: validation if validation in there else train}
    for split in (validation, calibration, test):
        if split not in there and source[split] in there:
            parts[source[split]].append(split)
    return parts


def assign(
    groups: np.ndarray,
    positions: np.ndarray,
    sampling: Sampling,
    labels: np.ndarray,
    names: Sequence[str],
    owned: np.ndarray | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Find the split of each example as its place in `SPLITS`, or `NOT_SAMPLED`.

    With counts, each split takes what it has kept from before, and then of those it owns the groups that lie lowest,
    label by label in the proportions of all examples, up to the count.

    Args:
        groups: Number of each example's group, [n].
        positions: Place of that group (`places` of its `key`), [n].
        sampling: The share or count of each split.
        labels: Number of each example's label in `names`, for the proportions; used with counts only. [n]
        names: The labels.
        owned: The split that may have each example, where it is not its position's (`owners`), [n].
        kept: Whether each example was in that split before, so that it stays there, [n].
    """
    owned = owners(positions, sampling) if owned is None else owned
    if not sampling.by_count:
        return owned
    kept = np.zeros(len(groups), bool) if kept is None else kept
    proportions = np.bincount(labels, minlength=len(names))
    drawn = np.where(kept, owned, np.int8(NOT_SAMPLED)).astype(np.int8)
    order = np.lexsort((groups, positions))
    for split, count in enumerate(sampling.amounts.values()):
        stays = kept & (owned == split)
        candidates = order[(owned[order] == split) & ~kept[order]]
        quotas = _quotas(proportions, names, int(count)) - np.bincount(labels[stays], minlength=len(names))
        room = max(int(count) - int(stays.sum()), 0)
        drawn[_filled(candidates, groups[candidates], labels[candidates], quotas.clip(min=0), room)] = split
    return drawn


def groups_by_split(table: Table) -> dict[Split, int]:
    """Count the groups in each split of a table."""
    seen: dict[Split, set[int]] = {split: set() for split in SPLITS}
    for chunk in table.chunks(["group", "split"]):
        rows = chunk.dropna()
        for split, keys in zip(rows["split"], hashes(rows.filter(["group"])).tolist(), strict=True):
            seen[split].add(keys)
    return {split: len(keys) for split, keys in seen.items()}


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
