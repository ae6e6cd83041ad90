"""Images of a validation file that merely look like those of the training file, as recompressed copies do.

Equal bytes are found while the files are read; here the thumbnails of different ones are compared, once both files are
known. Where the training file's own images look alike, as parts before one camera do, looks tell no copies from other
parts, and nothing is said. Images are decoded on all cores, a few ahead, without Python's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from finetune_assets.errors import ImageError
from finetune_assets.training_file.image_rules import CheckedImage

if TYPE_CHECKING:
    import numpy as np

THUMBNAIL_SIDE = 32
"""Of `dataset.images`, in pixels."""
MAX_IMAGES = 20_000
"""Images of one file that are looked at: 20 MB of thumbnails. The lines of the others are not compared."""
_MIN_CORRELATION = 0.9985
"""A little more than makes images belong together in one split, because here it is an error: of the 3.4 million pairs
of cells in elpv-dataset none reaches it, and of their copies at half the size or in a JPEG of quality 30 all do."""
_SELF_SIMILAR = 0.05
"""Share of the training images that look like another of them, above which looks tell no copies."""
_FEW_SIMILAR = 2
_SAMPLE = 1_000
"""Training images by which that is judged."""
_ROWS = 1024
_MIN_DEVIATION = 0.5
"""Standard deviation in grey levels below which a thumbnail shows nothing but noise."""


class Looks:
    """Thumbnails of one file's images, each different image once, and the lines that they stand in."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._thumbnails = bytearray()
        self._lines: list[tuple[int, int]] = []
        """Line and place of each image that an example is about."""
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._pending: deque[Future[bytes]] = deque()
        self.n_left_out = 0
        """Images that are not looked at."""

    def add(self, line: int, images: list[CheckedImage]) -> None:
        """Have the inlined images of a line looked at."""
        for image in images:
            if not image.data:
                continue
            place = self._places.get(image.key)
            if place is None:
                if len(self._places) >= MAX_IMAGES:
                    self.n_left_out += 1
                    continue
                place = self._places[image.key] = len(self._places)
                self._pending.append(self._pool.submit(_thumbnail, image.data))
                self._collect(2 * (os.cpu_count() or 1))
            self._lines.append((line, place))

    def _collect(self, left: int) -> None:
        while len(self._pending) > left:
            self._thumbnails += self._pending.popleft().result()

    def close(self) -> None:
        """Wait for the last images."""
        self._collect(0)
        self._pool.shutdown()

    def like(self, training: Looks, left_out: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
        """Yield the lines whose image looks like one of the training file, each with a line of the most alike.

        Args:
            training: Closed, as this one.
            left_out: Whether an image of the training file, by its key, is not to be compared.
        """
        import numpy as np

        places = np.array([place for key, place in training._places.items() if not left_out(key)], int)
        asked, known = self._points(), training._points()[places]
        if not len(known) or not len(asked):
            return
        sample = np.linspace(0, len(known) - 1, min(len(known), _SAMPLE)).astype(int)
        similar = int((_nearest(known[sample], known, but=sample)[0] >= _MIN_CORRELATION).sum())
        if similar > max(_FEW_SIMILAR, _SELF_SIMILAR * len(sample)):
            return
        best, nearest = _nearest(asked, known)
        first_lines = {place: line for line, place in reversed(training._lines)}
        for line, place in self._lines:
            if best[place] >= _MIN_CORRELATION:
                yield line, first_lines[int(places[nearest[place]])]

    def _points(self) -> np.ndarray:
        """Thumbnails as points on the unit sphere, [n, 1024]; those of one shade at its centre, far from all."""
        import numpy as np

        points = np.frombuffer(self._thumbnails, np.uint8).reshape(-1, THUMBNAIL_SIDE**2).astype(np.float32)
        shown = points.std(1, keepdims=True) >= _MIN_DEVIATION
        points -= points.mean(1, keepdims=True)
        return points * shown / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)


def _nearest(asked: np.ndarray, known: np.ndarray, but: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Correlation with the most alike of the known points, and its place, [n] each; `but` names places to pass over."""
    import numpy as np

    best, nearest = np.full(len(asked), -1.0, np.float32), np.zeros(len(asked), int)
    for top in range(0, len(asked), _ROWS):
        rows = slice(top, top + _ROWS)
        for start in range(0, len(known), _ROWS):
            alike = asked[rows] @ known[start : start + _ROWS].T
            if but is not None:
                alike[(start + np.arange(alike.shape[1]))[None] == but[rows, None]] = -1
            better = alike.max(1) > best[rows]
            nearest[rows] = np.where(better, start + alike.argmax(1), nearest[rows])
            best[rows] = np.maximum(best[rows], alike.max(1))
    return best, nearest


def _thumbnail(data: bytes) -> bytes:
    # Pillow takes a while to load, and most files have no images.
    from finetune_assets.dataset import images

    try:
        return images.inspect(data).thumbnail
    except ImageError:
        # What shows nothing looks like nothing.
        return bytes(THUMBNAIL_SIDE**2)
