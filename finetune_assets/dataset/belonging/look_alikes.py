"""Images that look the same: resized, recompressed or brightened copies of one another.

Two images are near-duplicates if their grey 32 x 32 thumbnails correlate at 0.998 or more. Copies at half the size or
in a JPEG of quality 30 do; a change of brightness or contrast makes no difference to a correlation unless it clips. A
marker elsewhere on a white image, or another solar cell of the same make, differs more: of the 1.8 million pairs of
cells in elpv-dataset seven reach it. An image of one shade has nothing to correlate and is nobody's near-duplicate.
The frames of one scene are a chain of likenesses, however long, and they all belong together. What lies just below the
limit stays apart, so `closeness` says of a test how near its examples come to those that train.

The search is exact. A standardised thumbnail is a point on a sphere, and a correlation is a distance there. The means
of its 8 x 8 blocks, scaled, are a projection of that point, and a projection never makes a distance larger: pairs
whose blocks lie too far apart are passed over by the thousand, as matrix products, and only the rest are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from finetune_assets.dataset.images import THUMBNAIL_SIDE

MIN_CORRELATION = 0.998
CLOSE = (0.99, 0.995)
"""Correlations that are counted though they are below the limit."""
MAX_COMPARED = (2_000, 20_000)
"""Most test and training images that are compared, for the time it takes: some seconds."""
THUMBNAIL_BYTES = THUMBNAIL_SIDE * THUMBNAIL_SIDE
_MIN_DEVIATION = 0.5
"""Standard deviation in grey levels below which a thumbnail shows nothing but noise."""
_BLOCKS = 8
_ROWS = 1024
_MAX_PARTNERS = 16
"""Likenesses kept of one image: of many equal images a few tie it to the others as well as all would."""
_MAX_SQUARED_DISTANCE = 2 - 2 * MIN_CORRELATION
_ROUNDING = 1e-5
_CONFIRMED_AT_ONCE = 1024

Pairs = tuple[np.ndarray, np.ndarray]
"""The places of both images; places count in the numbers that were asked about."""


def pairs(thumbnails: BinaryIO, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find which images look the same.

    Args:
        thumbnails: File of thumbnails, one after the other (`images.ImageFacts.thumbnail`).
        numbers: Numbers of the thumbnails to compare, [n]. Some 800 bytes of memory are taken for each.

    Returns:
        Places in `numbers` of the images of each pair, [m] each, the earlier one first. Of many that all look the same
        as many pairs are named as tie them together.
    """
    found = [(one.astype(np.int32), other.astype(np.int32)) for one, other in _pairs(thumbnails, numbers)]
    if not found:
        return np.empty(0, np.int32), np.empty(0, np.int32)
    one, other = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return one, other


@dataclass(frozen=True, slots=True)
class Closeness:
    """How near the images of the test come to those that train."""

    n_test: int
    """Images of the test that were compared."""
    n_train: int
    """And the training images that they were compared with."""
    n_close: dict[float, int]
    """Test images whose nearest training image correlates so much or more, by `CLOSE`."""

    def __str__(self) -> str:
        counts = ", ".join(f"{n} at {limit:g} or more" for limit, n in self.n_close.items())
        return f"of {self.n_test} test images so many correlate with one of {self.n_train} training images: {counts}"


def closeness(thumbnails: BinaryIO, test: np.ndarray, train: np.ndarray) -> Closeness:
    """Compare the images of the test with those that train; of more than `MAX_COMPARED`, evenly spread ones.

    Args:
        thumbnails: As for `pairs`.
        test: Numbers of the thumbnails of the test.
        train: And those of the training images.
    """
    test, train = (_spread(numbers, most) for numbers, most in zip((test, train), MAX_COMPARED, strict=True))
    nearest = np.full(len(test), -1.0)
    for start in range(0, len(train), _ROWS):
        known = _points(thumbnails, train[start : start + _ROWS])
        for top in range(0, len(test), _ROWS):
            found = _points(thumbnails, test[top : top + _ROWS]) @ known.T
            nearest[top : top + _ROWS] = np.maximum(nearest[top : top + _ROWS], found.max(1))
    return Closeness(len(test), len(train), {limit: int((nearest >= limit).sum()) for limit in CLOSE})


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    return numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), most)).astype(int)] if len(numbers) else numbers


def _points(thumbnails: BinaryIO, numbers: np.ndarray) -> np.ndarray:
    """Thumbnails as points on the unit sphere; those of one shade at its centre, far from all."""
    pixels = _mapped(thumbnails)[numbers]
    points = np.zeros(pixels.shape, np.float32)
    shown = pixels.std(1) >= _MIN_DEVIATION
    points[shown] = _standardised(pixels[shown])
    return points


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
            for chosen in _by_rounds(row[later], n_partners, top):
                a, b = _confirmed(thumbnails, numbers, places, row[later][chosen], column[later][chosen])
                np.add.at(n_partners, a - top, 1)
                yield np.minimum(places[a], places[b]), np.maximum(places[a], places[b])


def _by_rounds(row: np.ndarray, n_partners: np.ndarray, top: int) -> Iterator[np.ndarray]:
    """Choose a few candidates of each row first, then more of the rows that have found too few partners among them.

    Args:
        row: The row of each candidate pair, ascending.
        n_partners: Partners that each row has found so far; grows between the rounds.
        top: The row that its first entry is of.
    """
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    start, width = 0, 2 * _MAX_PARTNERS
    while len(rank) and start <= rank.max():
        yield np.flatnonzero((rank >= start) & (rank < start + width) & (n_partners[row - top] < _MAX_PARTNERS))
        start, width = start + width, 4 * width


def _confirmed(
    thumbnails: BinaryIO, numbers: np.ndarray, places: np.ndarray, row: np.ndarray, column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Those of the candidate pairs whose whole thumbnails are close enough."""
    close = np.zeros(len(row), bool)
    for start in range(0, len(row), _CONFIRMED_AT_ONCE):
        some = slice(start, start + _CONFIRMED_AT_ONCE)
        # Mapped anew each time, so that the pages looked at do not add up in memory.
        stored = _mapped(thumbnails)
        apart = _standardised(stored[numbers[places[row[some]]]]) - _standardised(stored[numbers[places[column[some]]]])
        close[some] = (apart**2).sum(1) <= _MAX_SQUARED_DISTANCE
    return row[close], column[close]


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
