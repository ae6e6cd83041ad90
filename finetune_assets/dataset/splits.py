"""The only place that decides what is held out.

An example's split follows from the hash of the seed and its group alone, so it is the same in every run, on every
machine, and stays the same when data is added. Examples of one group always land together.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import pandas as pd

from finetune_assets.task import SPLITS, Sampling, Split


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that two splits share and must not."""

    kind: Literal["image_sha256", "group"]
    value: str
    splits: tuple[str, ...]
    """The splits it is in, sorted."""


def position(seed: int, group: str) -> float:
    """Place a group in [0, 1): uniform over groups, fixed for a seed (the first 53 bits of a BLAKE2b hash)."""
    digest = hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def assign(groups: Sequence[str], sampling: Sampling, labels: Sequence[str | None]) -> list[Split | None]:
    """Find the split of each example, or None where it is not sampled.

    With shares, each split owns a fixed interval of positions as wide as its share, so the sizes come out near the
    shares, not exactly on them. With counts, each split owns an interval in proportion to its count and takes from
    it the groups that lie lowest, label by label in the proportions of all examples, up to the count. When data is
    added an example may then enter or leave the sample, but it never changes its split.

    Args:
        groups: Group of each example.
        sampling: The seed, and the share or count of each split.
        labels: Label of each example, for the proportions; used with counts only.
    """
    positions = {group: position(sampling.seed, group) for group in dict.fromkeys(groups)}
    bounds = _bounds(sampling)
    owners: dict[str, Split | None] = {group: _owner(place, bounds) for group, place in positions.items()}
    if not sampling.by_count:
        return [owners[group] for group in groups]
    chosen = _chosen(groups, labels, positions, owners, sampling)
    return [owners[group] if group in chosen else None for group in groups]


def leaks(frame: pd.DataFrame) -> list[Leak]:
    """List every image hash and group that is in two splits of the frame; nothing if the splits are clean."""
    found: list[Leak] = []
    kinds: tuple[Literal["image_sha256", "group"], ...] = ("image_sha256", "group")
    for kind in kinds:
        splits: dict[str, set[str]] = defaultdict(set)
        for value, split in frame[[kind, "split"]].dropna().itertuples(index=False):
            splits[value].add(split)
        found.extend(
            Leak(kind, value, tuple(sorted(splits[value]))) for value in sorted(splits) if len(splits[value]) > 1
        )
    return found


def _bounds(sampling: Sampling) -> list[float]:
    """Upper end of each split's interval, in the order of `SPLITS`."""
    amounts = list(sampling.amounts.values())
    total = sum(amounts) if sampling.by_count else 1
    return [upper / total for upper in accumulate(amounts)]


def _owner(place: float, bounds: list[float]) -> Split | None:
    for split, upper in zip(SPLITS, bounds, strict=True):
        if place < upper:
            return split
    return None


def _chosen(
    groups: Sequence[str],
    labels: Sequence[str | None],
    positions: Mapping[str, float],
    owners: Mapping[str, Split | None],
    sampling: Sampling,
) -> set[str]:
    """Choose the groups that fill the counts."""
    members: dict[str, list[str | None]] = defaultdict(list)
    for group, label in zip(groups, labels, strict=True):
        members[group].append(label)
    proportions = Counter(labels)
    chosen: set[str] = set()
    for split, count in sampling.amounts.items():
        candidates = sorted((group for group in members if owners[group] == split), key=positions.__getitem__)
        chosen |= _filled(candidates, members, _quotas(proportions, int(count)), int(count))
    return chosen


def _filled(
    candidates: list[str], members: Mapping[str, list[str | None]], quotas: Mapping[str | None, int], count: int
) -> set[str]:
    """Take the lowest groups that fit the labels' quotas, then the lowest others that still fit the count."""
    taken: set[str] = set()
    room, total = Counter(quotas), 0
    for group in candidates:
        wanted = Counter(members[group])
        if all(room[label] >= n for label, n in wanted.items()):
            taken.add(group)
            room -= wanted
            total += wanted.total()
    for group in candidates:
        if group not in taken and total + len(members[group]) <= count:
            taken.add(group)
            total += len(members[group])
    return taken


def _quotas(proportions: Counter[str | None], count: int) -> dict[str | None, int]:
    """`count` divided among the labels in proportion, the largest remainders rounded up (Hamilton's method)."""
    total = proportions.total()
    exact = {label: count * n / total for label, n in proportions.items()}
    quotas = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (quotas[label] - exact[label], str(label)))
    for label in by_remainder[: count - sum(quotas.values())]:
        quotas[label] += 1
    return quotas
