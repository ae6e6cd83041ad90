"""Images that look the same: resized, recompressed or brightened copies of one another.

Two images are near-duplicates if their grey 32 x 32 thumbnails correlate at 0.998 or more. Copies at half the size or
in a JPEG of quality 30 do; a change of brightness or contrast makes no difference to a correlation unless it clips. A
marker elsewhere on a white image, or another solar cell of the same make, differs more: of the 1.8 million pairs of
cells in elpv-dataset seven reach it. An image of one shade has nothing to correlate and is nobody's near-duplicate.

The search is exact. A standardised thumbnail is a point on a sphere, and a correlation is a distance there. The means
of its 8 x 8 blocks, scaled, are a projection of that point, and a projection never makes a distance larger: pairs
whose blocks lie too far apart are passed over by the thousand, as matrix products, and only the rest are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from finetune_assets.dataset.images import THUMBNAIL_SIDE

MIN_CORRELATION = 0.998
MAX_CLUSTER_SHARE = 0.05
"""Largest share of the images in one cluster, so that no chain of likenesses can swallow a region."""
MIN_CLUSTER_CAP = 10
THUMBNAIL_BYTES = THUMBNAIL_SIDE * THUMBNAIL_SIDE
_MIN_DEVIATION = 0.5
"""Standard deviation in grey levels below which a thumbnail shows nothing but noise."""
_BLOCKS = 8
_ROWS = 1024
_MAX_PARTNERS = 16
"""Likenesses kept of one image: of many equal images a few tie it to the others as well as all would."""
_MAX_SQUARED_DISTANCE = 2 - 2 * MIN_CORRELATION
_ROUNDING = 1e-5
_CONFIRMED_AT_ONCE = 4096

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Squared distances and the places of both images; places count in the numbers that were asked about."""


def clusters(thumbnails: BinaryIO, numbers: np.ndarray) -> np.ndarray:
    """Find which images look the same.

    Args:
        thumbnails: File of thumbnails, one after the other (`images.ImageFacts.thumbnail`).
        numbers: Numbers of the thumbnails to compare, [n]. Some 800 bytes of memory are taken for each.

    Returns:
        For each of them the place in `numbers` of the first one of its cluster, [n].
    """
    found = list(_pairs(thumbnails, numbers))
    distances, one, other = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else ([], [], [])
    # The most alike first: where a cluster is full, it is the loosest likenesses that are given up.
    order = np.lexsort((other, one, distances))
    cap = max(MIN_CLUSTER_CAP, int(MAX_CLUSTER_SHARE * len(numbers)))
    return _joined(((int(one[at]), int(other[at])) for at in order), len(numbers), cap)


def _pairs(thumbnails: BinaryIO, numbers: np.ndarray) -> Iterator[Pairs]:
    """All pairs of look-alikes, the earlier place first."""
    coarse, places = _coarse(thumbnails, numbers)
    # In this order most blocks of rows lie too far apart already along one line.
    along = coarse @ _longest_direction(coarse)
    order = np.argsort(along, kind="stable")
    coarse, places, along = coarse[order], places[order], along[order]
    lengths = (coarse**2).sum(1)
    for top in range(0, len(places), _ROWS):
        rows = np.arange(top, min(top + _ROWS, len(places)))
        n_partners = np.zeros(len(places[rows]), int)
        for start in range(top, len(places), _ROWS):
            if along[start] - along[rows[-1]] > np.sqrt(_MAX_SQUARED_DISTANCE + _ROUNDING):
                break
            still = rows[n_partners < _MAX_PARTNERS]
            ahead = slice(start, start + _ROWS)
            distances = lengths[still, None] + lengths[None, ahead] - 2 * coarse[still] @ coarse[ahead].T
            row, column = np.nonzero(distances <= _MAX_SQUARED_DISTANCE + _ROUNDING)
            row, column = still[row], column + start
            later = column > row
            for distance, a, b in _confirmed(thumbnails, numbers, places, row[later], column[later]):
                np.add.at(n_partners, a - top, 1)
                yield distance, np.minimum(places[a], places[b]), np.maximum(places[a], places[b])


def _confirmed(
    thumbnails: BinaryIO, numbers: np.ndarray, places: np.ndarray, row: np.ndarray, column: np.ndarray
) -> Iterator[Pairs]:
    """Those of the candidate pairs whose whole thumbnails are close enough, with their distances."""
    for start in range(0, len(row), _CONFIRMED_AT_ONCE):
        a, b = row[start : start + _CONFIRMED_AT_ONCE], column[start : start + _CONFIRMED_AT_ONCE]
        # Mapped anew each time, so that the pages looked at do not add up in memory.
        stored = _mapped(thumbnails)
        apart = _standardised(stored[numbers[places[a]]]) - _standardised(stored[numbers[places[b]]])
        distances = (apart**2).sum(1)
        close = distances <= _MAX_SQUARED_DISTANCE
        if close.any():
            yield distances[close], a[close], b[close]


def _coarse(thumbnails: BinaryIO, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The projections of the thumbnails that show something, [m, 64], and their places, [m]."""
    side = THUMBNAIL_SIDE // _BLOCKS
    kept: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for start in range(0, len(numbers), _ROWS):
        pixels = _mapped(thumbnails)[numbers[start : start + _ROWS]]
        shown = np.flatnonzero(pixels.std(1) >= _MIN_DEVIATION)
        points = _standardised(pixels[shown]).reshape(-1, _BLOCKS, side, _BLOCKS, side)
        kept.append(points.mean((2, 4)).reshape(len(shown), _BLOCKS**2) * side)
        places.append(shown + start)
    return np.concatenate(kept), np.concatenate(places)


def _mapped(thumbnails: BinaryIO) -> np.ndarray:
    return np.memmap(thumbnails, np.uint8, "r").reshape(-1, THUMBNAIL_BYTES)


def _standardised(pixels: np.ndarray) -> np.ndarray:
    """Thumbnails as points on the unit sphere, [n, 1024]."""
    centred = pixels.astype(np.float32)
    centred -= centred.mean(1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _longest_direction(points: np.ndarray) -> np.ndarray:
    """The unit vector along which the points lie farthest apart (their first principal component)."""
    if len(points) < 2:
        return np.eye(points.shape[1], dtype=np.float32)[0]
    return np.linalg.eigh(np.cov(points, rowvar=False))[1][:, -1].astype(np.float32)


def _joined(pairs: Iterator[tuple[int, int]], n: int, cap: int) -> np.ndarray:
    """Join the pairs in their order into clusters of at most `cap`; the first place of each place's cluster, [n]."""
    firsts: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for one, other in pairs:
        first, second = sorted((firsts.get(one, one), firsts.get(other, other)))
        joined = members.get(first, [first]) + members.get(second, [second])
        if first != second and len(joined) <= cap:
            members[first] = joined
            firsts.update(dict.fromkeys(joined, first))
    result = np.arange(n)
    if firsts:
        result[list(firsts)] = list(firsts.values())
    return result
