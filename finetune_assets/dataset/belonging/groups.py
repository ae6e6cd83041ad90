"""Which examples belong together: those that share a group, an image, its look, or what a text says.

Works on hashes and numbers in numpy arrays, some 40 bytes a row, so that a region may have millions of rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from finetune_assets.dataset import splits

UNKNOWN = np.uint64(0)
"""Hash of an image that there is not."""
_PAIRS_AT_ONCE = 1 << 20
"""Some 40 bytes of memory are taken for each."""


class Groups:
    """The groups of all rows, merged; names are kept only of those that were merged."""

    def __init__(self, hashes: np.ndarray, links: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        self._hashes, own = np.unique(hashes, return_inverse=True)
        root = components(own, links)
        self.of_row = root[own]
        """Number of the merged group of each row, [n]."""
        merged = root != np.arange(len(root))
        self.is_merged = np.isin(self.of_row, root[merged])
        self.names: dict[int, str] = {}

    @property
    def largest(self) -> tuple[int, int]:
        """Number of the largest group, and of its rows; no rows where there are none at all."""
        sizes = np.bincount(self.of_row, minlength=1)
        return int(sizes.argmax()), int(sizes.max())

    def name_merged(self, chunks: Iterable[pd.DataFrame]) -> None:
        """Learn the smallest name of each merged group from the rows' own names."""
        for chunk in chunks if self.is_merged.any() else ():
            merged = np.flatnonzero(self.is_merged[chunk.index])
            names = [str(name) for name in chunk["group"].iloc[merged]]
            for group, name in zip(self.of_row[chunk.index[merged]].tolist(), names, strict=True):
                self.names[group] = min(name, self.names.get(group, name))

    def position(self, seed: int) -> np.ndarray:
        """Place of each row's group in [0, 1), [n]."""
        hashes = self._hashes.copy()
        for group, name in self.names.items():
            hashes[group] = splits.key(seed, name)
        return splits.places(hashes)[self.of_row]


def linked(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair each row whose key occurred before with the first row that has it; rows with the key `UNKNOWN` with none.

    Args:
        keys: Hashes, [n].

    Returns:
        The first rows and the later ones, [m] each.
    """
    known = np.flatnonzero(keys != UNKNOWN)
    _, firsts, inverse = np.unique(keys[known], return_index=True, return_inverse=True)
    firsts = known[firsts][inverse]
    later = firsts != known
    return firsts[later], known[later]


def components(groups: np.ndarray, links: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Merge groups that are linked, directly or through others.

    Args:
        groups: Number of each row's group, from 0, [n].
        links: Pairs of rows that belong together, as two arrays of row numbers.

    Returns:
        For each group the smallest group number that it is merged with, [number of groups].
    """
    root = np.arange(int(groups.max(initial=-1)) + 1)
    for rows, others in links:
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            some = slice(start, start + _PAIRS_AT_ONCE)
            root = _joined(len(root), root[groups[rows[some]]], root[groups[others[some]]])[root]
    return root


def _joined(n: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each of n numbers the smallest that pairs of them connect it with, [n]."""
    # It takes a while to load, and most regions have no pairs.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, component = connected_components(coo_array((np.ones(len(one), bool), (one, other)), (n, n)), directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component]
