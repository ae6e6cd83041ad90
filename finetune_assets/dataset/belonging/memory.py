"""What was drawn before: once in a split, an example stays there, and what belongs to it joins it.

Kept beside the region's table, one row for each example that was ever in a split, as hashes of its id, its image, its
group and what its text says. Rows that are gone are remembered too: what comes back, and what belongs to it, goes where
it was. A change of the seed or the shares draws all anew, but what has trained a model before is not forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from upath import UPath

from finetune_assets.dataset.belonging.groups import UNKNOWN
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.task import SPLITS, Sampling

KEYS = ("example", "image", "group", "text")
"""By what an example is known again."""
NOT_DRAWN = -1
_TRAINING = (SPLITS.index("train"), SPLITS.index("validation"))


@dataclass(frozen=True, slots=True)
class Known:
    """What examples are known by, an array of [n] hashes each; `UNKNOWN` where there is no such thing."""

    example: np.ndarray
    image: np.ndarray
    group: np.ndarray
    text: np.ndarray

    def at(self, rows: np.ndarray) -> Known:
        """Return some of the rows, by number or mask."""
        return Known(*(getattr(self, key)[rows] for key in KEYS))

    def and_those(self, others: Known) -> Known:
        """Return these and other rows."""
        return Known(*(np.concatenate([getattr(self, key), getattr(others, key)]) for key in KEYS))


@dataclass(frozen=True, slots=True)
class Memory:
    """The draws of a region so far."""

    known: Known
    split: np.ndarray
    """Place in `SPLITS` of each example in the newest draw, or `NOT_DRAWN` where it was gone by then, [n]."""
    trained: np.ndarray
    """Whether it was sent to a provider, in the newest draw or before, [n]."""
    draw: str
    """The seed and the amounts of the newest draw; "" where there was none."""

    @classmethod
    def empty(cls) -> Memory:
        """Return what is remembered before the first draw."""
        return cls(Known(*(np.empty(0, np.uint64) for _ in KEYS)), np.empty(0, np.int8), np.empty(0, bool), "")

    @classmethod
    def read(cls, path: UPath) -> Memory:
        """Read what was written; nothing is remembered where there is no such file."""
        if not path.exists():
            return cls.empty()
        frame = Table(path).frame()
        known = Known(*(frame[key].to_numpy(np.uint64) for key in KEYS))
        draw = str(frame["draw"].iloc[0]) if len(frame) else ""
        return cls(known, frame["split"].to_numpy(np.int8), frame["trained"].to_numpy(bool), draw)

    def write(self, path: UPath) -> None:
        """Write all of it, readable for people and pandas."""
        columns = {field.name: getattr(self.known, field.name) for field in fields(Known)}
        frame = pd.DataFrame({**columns, "split": self.split, "trained": self.trained})
        write_table(path, frame.assign(draw=self.draw))

    def holds_for(self, sampling: Sampling) -> bool:
        """Return whether the newest draw was made as is asked now, so that its splits hold."""
        return self.draw == draw_words(sampling)

    def split_of(self, rows: Known) -> np.ndarray:
        """Return the split of each row of the same id and image, [n]; `NOT_DRAWN` for the others."""
        return self._found(rows, self.split, np.int8(NOT_DRAWN))

    def splits_beside(self, rows: Known) -> np.ndarray:
        """Return the splits of all that each row belongs to: a sum of powers of two by the place in `SPLITS`, [n]."""
        return beside(rows, self.known, self.split)

    def has_trained(self, rows: Known) -> np.ndarray:
        """Return whether each row, or one that it belongs to, was ever sent to a provider, [n]."""
        return beside(rows, self.known, np.where(self.trained, 0, NOT_DRAWN)) > 0

    def with_draw(self, rows: Known, split: np.ndarray, sampling: Sampling) -> Memory:
        """Return what is remembered after a draw, given the rows that are in a split, and their splits."""
        trained = np.isin(split, _TRAINING) | (self._found(rows, self.trained.astype(np.int8), np.int8(0)) > 0)
        gone = ~np.isin(self.known.example, rows.example)
        kept = self.split[gone] if self.holds_for(sampling) else np.full(int(gone.sum()), NOT_DRAWN, np.int8)
        return Memory(
            rows.and_those(self.known.at(gone)),
            np.concatenate([split, kept]).astype(np.int8),
            np.concatenate([trained, self.trained[gone]]),
            draw_words(sampling),
        )

    def _found(self, rows: Known, values: np.ndarray, otherwise: np.int8) -> np.ndarray:
        if not len(values):
            return np.full(len(rows.example), otherwise, np.int8)
        order = np.argsort(self.known.example, kind="stable")
        at = order[np.searchsorted(self.known.example[order], rows.example).clip(max=len(order) - 1)]
        same = (self.known.example[at] == rows.example) & (self.known.image[at] == rows.image)
        return np.where(same, values[at], otherwise).astype(np.int8)


def draw_words(sampling: Sampling) -> str:
    """Say how a draw was asked for."""
    return f"{', '.join(f'{split} {amount}' for split, amount in sampling.amounts.items())}, seed {sampling.seed}"


def beside(rows: Known, others: Known, split: np.ndarray) -> np.ndarray:
    """Return the splits of the others that share anything with each row: a sum of powers of two, [n].

    Args:
        rows: The rows in question, [n].
        others: Those that are in splits, [m].
        split: Their places in `SPLITS`, [m]; `NOT_DRAWN` does not count.
    """
    found = np.zeros(len(rows.example), np.uint8)
    for key in KEYS:
        keys = getattr(others, key)
        drawn = (split >= 0) & (keys != UNKNOWN)
        if not drawn.any():
            continue
        order = np.argsort(keys[drawn], kind="stable")
        keys, bits = keys[drawn][order], np.left_shift(1, split[drawn][order]).astype(np.uint8)
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        merged, names = np.bitwise_or.reduceat(bits, starts), keys[starts]
        at = np.searchsorted(names, getattr(rows, key)).clip(max=len(names) - 1)
        found |= np.where(names[at] == getattr(rows, key), merged[at], 0).astype(np.uint8)
    return found
