"""From the rows of a source to their groups and splits, as hashes and numbers alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from finetune_assets.dataset import splits
from finetune_assets.dataset.belonging import look_alikes
from finetune_assets.dataset.belonging.further_images import FurtherImages
from finetune_assets.dataset.belonging.groups import UNKNOWN, Groups, linked
from finetune_assets.dataset.belonging.memory import NOT_DRAWN, Known, Memory, beside
from finetune_assets.dataset.belonging.near_texts import text_keys
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.image_looks import Look
from finetune_assets.dataset.images import ImageFacts
from finetune_assets.dataset.table import read_chunks
from finetune_assets.task import SPLITS, Sampling

_IMAGE_HASH = re.compile("[0-9a-f]{64}")
"""What a group is called that has no other name than its image's."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What stays in memory of the rows of the source, an array of [n] each."""

    group: np.ndarray
    """Hash of the seed and the name of the group, from which the split follows."""
    kin: np.ndarray
    """Hash of the group's name alone."""
    image: np.ndarray
    """Hash of the image, or `UNKNOWN`."""
    text: np.ndarray
    """What is said where there is no image (`near_texts`), or `UNKNOWN`."""
    thumbnail: np.ndarray
    """Number of the image's thumbnail, or -1."""
    name: np.ndarray
    """Hash of the id."""
    order: np.ndarray
    """Hash of what tells rows of one id apart, so that they are numbered alike whatever their order."""
    label: np.ndarray
    """Number of the answer among the labels, beyond them where it is none."""
    published: np.ndarray
    """Place in `SPLITS` of the split that the row was published in, or -1."""
    usable: np.ndarray
    """Whether the row has no problem."""
    owner: np.ndarray
    """Number of the row that an entry belongs to: its own, or after all rows that of one with a further image."""

    @classmethod
    def of(cls, rows: Sequence[Example], looks: Sequence[Look], seed: int, labels: Sequence[str], near: bool) -> Rows:
        """Take from rows, whose images were looked at, what stays in memory."""
        codes = {label: code for code, label in enumerate(labels)}
        facts = [look.facts for look in looks]
        groups = [group_of(row, fact) for row, fact in zip(rows, facts, strict=True)]
        usable = [row.problem is None and look.error is None for row, look in zip(rows, looks, strict=True)]
        said = [at for at, fine in enumerate(usable) if near and fine and rows[at].image is None]
        texts = np.full(len(rows), UNKNOWN, np.uint64)
        texts[said] = text_keys([rows[at].question for at in said], [rows[at].system for at in said])
        names = splits.keys(0, (row.id for row in rows))
        return cls(
            group=splits.keys(seed, groups),
            kin=_kin(groups, rows, names),
            image=np.array([int(fact.sha256[:16], 16) if fact else UNKNOWN for fact in facts], np.uint64),
            text=texts,
            thumbnail=np.array([look.thumbnail for look in looks], np.int32),
            name=names,
            order=_order(rows),
            label=np.array([codes.get(row.answer or "", len(labels)) for row in rows], np.int16),
            published=np.array([SPLITS.index(row.published) if row.published else -1 for row in rows], np.int8),
            usable=np.array(usable, bool),
            owner=np.arange(len(rows), dtype=np.int32),
        )

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Put parts one after the other."""
        rows = cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__})
        return replace(rows, owner=np.arange(len(rows.name), dtype=np.int32))

    def with_further(self, images: FurtherImages, references: np.ndarray) -> Rows:
        """Add an entry for each image of a row with several: it is of the row's group, and ties it to what shows it.

        Args:
            images: Those that tie.
            references: Hashes of images that are only shown for comparison, so that even where one is in question it
                ties nothing.
        """
        owner = images.owner
        compared = np.isin(self.image, references)
        self.image[compared], self.thumbnail[compared] = UNKNOWN, -1
        entries = Rows(
            **{name: getattr(self, name)[owner] for name in self.__slots__}
            | {"image": images.image, "thumbnail": images.thumbnail, "name": images.name, "owner": owner}
            | {"text": np.full(len(owner), UNKNOWN, np.uint64)}
        )
        rows = Rows.joined([self, entries])
        return replace(rows, owner=np.concatenate([self.owner, owner]))

    @property
    def own(self) -> np.ndarray:
        """Whether an entry is the row itself and no further image of one, [n]."""
        return self.owner == np.arange(len(self.owner))

    @property
    def known(self) -> Known:
        """What the rows are known by in later draws."""
        return Known(self.name, self.image, self.kin, self.text)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images that look the same, each by one row that has it, the earlier ones first, [m] each."""

    one: np.ndarray
    other: np.ndarray
    image: np.ndarray
    """Hash of the image of each row of the source, or `UNKNOWN`, [n]."""

    @classmethod
    def none(cls, image: np.ndarray) -> Pairs:
        """No pairs of the rows that have these images."""
        return cls(np.empty(0, int), np.empty(0, int), image)

    def among(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of which both images are in rows chosen by a mask, each by its first such row.

        The row that stands for an image may itself be set aside while another with the same image is in a split.
        """
        chosen = np.flatnonzero(rows & (self.image != UNKNOWN)).astype(np.int32)
        if not len(self.one) or not len(chosen):
            return np.empty(0, int), np.empty(0, int)
        images, firsts = np.unique(self.image[chosen], return_index=True)
        place = np.searchsorted(images, self.image).clip(max=len(images) - 1).astype(np.int32)
        places = [place[of] for of in (self.one, self.other)]
        both = (images[places[0]] == self.image[self.one]) & (images[places[1]] == self.image[self.other])
        return chosen[firsts[places[0][both]]], chosen[firsts[places[1][both]]]

    def beside(self, split: np.ndarray) -> np.ndarray:
        """The splits that hold an image which looks like that of each row: a sum of powers of two, [n].

        Args:
            split: Place in `SPLITS` of each row, or below 0, [n].
        """
        if not len(self.one):
            return np.zeros(len(split), np.uint8)
        drawn = split >= 0
        _, image = np.unique(self.image, return_inverse=True)
        held, alike = (np.zeros(int(image.max()) + 1, np.uint8) for _ in range(2))
        np.bitwise_or.at(held, image[drawn], np.left_shift(1, split[drawn]).astype(np.uint8))
        for one, other in ((self.one, self.other), (self.other, self.one)):
            np.bitwise_or.at(alike, image[other], held[image[one]])
        return alike[image]

    @property
    def n_later(self) -> int:
        """Number of images that look like an earlier one."""
        return len(np.unique(self.other))


@dataclass(frozen=True, slots=True)
class Draw:
    """What was decided about each row: its group and its split."""

    groups: Groups
    split: np.ndarray
    """Place in `SPLITS` of each row, or `splits.NOT_SAMPLED`, [n]."""
    bridging: np.ndarray
    """Whether a new row belongs to several splits of before, so that it can be in none, [n]."""

    @classmethod
    def of(
        cls, rows: Rows, alike: Pairs, scratch: Any, sampling: Sampling, labels: Sequence[str], memory: Memory
    ) -> Draw:
        """Give the rows their splits: old ones their own, new ones that of what they belong to, others one by hash."""
        holds = memory.holds_for(sampling)
        before = memory.split_of(rows.known) if holds else np.full(len(rows.name), NOT_DRAWN, np.int8)
        # With another image beside it an example is another one.
        before[rows.owner[before == NOT_DRAWN]] = NOT_DRAWN
        before = before[rows.owner]
        published = rows.published >= 0
        allowed = _allowed(rows)
        before[published & ((allowed >> before.clip(min=0)) & 1 == 0)] = NOT_DRAWN
        before[~rows.usable] = NOT_DRAWN
        new = rows.usable & (before == NOT_DRAWN)
        beside_it = _beside(rows, alike, before, memory if holds else Memory.empty())
        np.bitwise_or.at(beside_it, rows.owner, beside_it.copy())
        beside_it = beside_it[rows.owner] & allowed
        # What ties splits together by itself goes first: what belongs to it alone may still join one of them.
        bridging = new & ~published & (np.bitwise_count(beside_it) > 1)
        of_new = _grouped(rows, alike, new & ~bridging, scratch)
        joined = _joined(of_new, np.where(bridging, 0, beside_it)) & allowed
        bridging |= new & ~published & (np.bitwise_count(joined) > 1)
        joins = new & (np.bitwise_count(joined) == 1)
        positions = of_new.position(sampling.seed)
        if sampling.stratify:
            free = np.flatnonzero(new & ~bridging & ~joins)
            strata = rows.label[free].astype(np.int64) * (len(SPLITS) + 1) + rows.published[free] + 1
            positions = positions.copy()
            positions[free] = splits.stratified(positions[free], of_new.of_row[free], strata)
        owned = np.where(before >= 0, before, splits.owners(positions, sampling)).astype(np.int8)
        if published.any():
            cut = splits.as_published(rows.published[published], positions[published], sampling)
            owned[published] = np.where(before[published] >= 0, before[published], cut)
        owned[joins] = np.log2(joined[joins]).astype(np.int8)
        drawn = np.flatnonzero(rows.usable & ~bridging & rows.own)
        split = np.full(len(new), splits.NOT_SAMPLED, np.int8)
        split[drawn] = splits.assign(
            *(of_new.of_row[drawn], positions[drawn], sampling, rows.label[drawn], [*labels, "None"]),
            owned=owned[drawn],
            kept=before[drawn] >= 0,
        )
        split = split[rows.owner]
        groups = of_new if new[rows.usable].all() and not bridging.any() else None
        return cls(groups or _grouped(rows, alike, rows.usable & ~bridging, scratch), split, bridging)

    def largest_group(self, usable: np.ndarray, scratch: Any) -> tuple[str, int]:
        """Return the name of the largest group of usable rows, an image's file for its hash, and how many they are."""
        if not usable.any():
            return "", 0
        sizes = np.bincount(self.groups.of_row[usable])
        number = int(sizes.argmax())
        row = int(np.flatnonzero(self.groups.of_row == number)[0])
        for chunk in read_chunks(scratch, ["group", "image"]):
            if row in chunk.index:
                name = self.groups.names.get(number, str(chunk.loc[row, "group"]))
                file = PurePath(str(chunk.loc[row, "image"])).name
                return file if _IMAGE_HASH.fullmatch(name) else name, int(sizes.max())
        raise AssertionError


def _grouped(rows: Rows, alike: Pairs, chosen: np.ndarray, scratch: Any) -> Groups:
    """Merge the groups of the chosen rows; each other row stands alone."""
    alone = np.arange(1, len(chosen) + 1, dtype=np.uint64)
    image, text = (np.where(chosen, keys, UNKNOWN) for keys in (rows.image, rows.text))
    links = [linked(image), linked(text), alike.among(chosen)]
    groups = Groups(np.where(chosen, rows.group, alone), links)
    groups.name_merged(read_chunks(scratch, ["group"]))
    return groups


def _allowed(rows: Rows) -> np.ndarray:
    """The splits that each row may be in, given what it was published in: a sum of powers of two, [n]."""
    allowed = np.full(len(rows.name), (1 << len(SPLITS)) - 1, np.uint8)
    given = rows.published >= 0
    for split, parts in splits.cut_out_of(rows.published[given]).items():
        allowed[rows.published == split] = sum(1 << part for part in parts)
    return allowed


def _joined(groups: Groups, beside_it: np.ndarray) -> np.ndarray:
    """The splits that hold what each row's group of new rows belongs to: a sum of powers of two, [n]."""
    of_group = np.zeros(int(groups.of_row.max(initial=0)) + 1, np.uint8)
    np.bitwise_or.at(of_group, groups.of_row, beside_it.astype(np.uint8))
    return of_group[groups.of_row]


def _beside(rows: Rows, alike: Pairs, before: np.ndarray, memory: Memory) -> np.ndarray:
    """The splits that hold what each new row belongs to by itself: a sum of powers of two, [n]."""
    old = before >= 0
    found = memory.splits_beside(rows.known) | beside(rows.known, rows.known.at(old), before[old])
    found |= alike.beside(before)
    found[old | ~rows.usable] = 0
    return found


def looks_of(rows: Rows, alike: Pairs, chosen: np.ndarray, scratch: Any) -> dict[int, str]:
    """Hash of the first of the images that look the same, by row; nothing of rows whose image is like no other."""
    one, other = alike.among(chosen)
    if not len(one):
        return {}
    groups = Groups(np.where(rows.image != UNKNOWN, rows.image, rows.name), [(one, other)])
    of_row = groups.of_row
    shown = np.flatnonzero(np.isin(of_row, of_row[other]) & chosen)
    _, firsts, inverse = np.unique(of_row[shown], return_index=True, return_inverse=True)
    wanted, names = set(shown[firsts].tolist()), {}
    for chunk in read_chunks(scratch, ["image_sha256"]):
        names |= {row: str(chunk.loc[row, "image_sha256"]) for row in wanted.intersection(chunk.index)}
    return {row: names[int(shown[firsts[at]])] for row, at in zip(shown.tolist(), inverse.tolist(), strict=True)}


def paired(rows: Rows, thumbnails: Any) -> Pairs:
    """Pair the rows of images that look the same."""
    pictured = np.flatnonzero((rows.thumbnail >= 0) & rows.usable)
    # One row stands for all that have the same image.
    _, firsts = np.unique(rows.image[pictured], return_index=True)
    pictured = pictured[np.sort(firsts)]
    if not len(pictured):
        return Pairs.none(rows.image)
    one, other = look_alikes.pairs(thumbnails, rows.thumbnail[pictured])
    return Pairs(pictured[one], pictured[other], rows.image)


def published_words(rows: Rows) -> str:
    """Say what is cut out of published splits."""
    given = rows.published[(rows.published >= 0) & rows.own]
    if not len(given):
        return ""
    parts = splits.cut_out_of(given).items()
    cut = [f"{SPLITS[part]} is cut out of {SPLITS[split]}" for split, several in parts for part in several[1:]]
    there = ", ".join(f"{int((given == split).sum())} {SPLITS[split]}" for split, _ in parts)
    return f"used as published: {there}; {', '.join(cut) or 'nothing is cut'}"


def _order(rows: Sequence[Example]) -> np.ndarray:
    """Hash what tells rows of one id apart, [n]: mostly the same few again."""
    told = [f"{row.answer}\0{row.score}\0{row.doubt}" for row in rows]
    several = list(dict.fromkeys(told))
    hashes = splits.keys(0, several)
    return hashes[list(map(dict(zip(several, range(len(several)), strict=True)).__getitem__, told))]


def _kin(groups: Sequence[str], rows: Sequence[Example], names: np.ndarray) -> np.ndarray:
    """Hash the groups' names, given the hashes of the rows' own: most rows are a group by themselves."""
    named = [at for at, (group, row) in enumerate(zip(groups, rows, strict=True)) if group != row.id]
    kin = names.copy()
    kin[named] = splits.keys(0, (groups[at] for at in named))
    return kin


def group_of(row: Example, facts: ImageFacts | None) -> str:
    """Name the group of an example: its own, else its only image, else itself."""
    return row.group or (facts.sha256 if facts and not row.pictures else None) or row.id
