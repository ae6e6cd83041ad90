"""Large images a few rows at a time: of 64 million pixels each copy is 200 to 500 MB, and as floats 800."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

BAND_PIXELS = 1 << 20
"""Of one band; more where a single row has more."""
Box = tuple[int, int, int, int]


def bands(image: Image.Image) -> Iterator[Box]:
    """Yield the bands of an image from top to bottom: left, upper, right and lower end, as `Image.crop` takes them."""
    for top, bottom in row_bands(image.height, image.width):
        yield 0, top, image.width, bottom


def row_bands(n_rows: int, row_size: int) -> Iterator[tuple[int, int]]:
    """Yield where bands of rows of `row_size` values begin and end."""
    step = max(1, BAND_PIXELS // max(1, row_size))
    for top in range(0, n_rows, step):
        yield top, min(n_rows, top + step)
