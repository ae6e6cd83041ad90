"""Bands: what they cover, and that a large image is turned into RGB in little more memory than its pixels."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune_assets.dataset import images
from finetune_assets.dataset.pixels.bands import BAND_PIXELS, bands, row_bands
from finetune_assets_tests.dataset.pixels.files import tiff

SIDE = 2500
IN_MEMORY = 4 * SIDE * SIDE
"""Bytes that Pillow needs for the RGB pixels: four for each."""
STATUS, PEAK = Path("/proc/self/status"), "5"
GREYS = np.linspace(0, 255, SIDE).astype(np.uint8)


def saved(image: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def colours(n: int) -> np.ndarray:
    return np.broadcast_to(GREYS[:, None], (SIDE, SIDE, n)).copy()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1200, 4000), (BAND_PIXELS + 1, 2)])
def test_bands_cover_an_image_once_from_top_to_bottom(size: tuple[int, int]) -> None:
    found = list(bands(Image.new("1", size)))
    assert [top for _, top, _, _ in found] == [0, *(bottom for _, _, _, bottom in found[:-1])]
    assert found[-1][3] == size[1]
    assert {(left, right) for left, _, right, _ in found} == {(0, size[0])}
    assert all((bottom - top == 1) or (bottom - top) * size[0] <= BAND_PIXELS for _, top, _, bottom in found)


def test_no_rows_have_no_bands() -> None:
    assert list(row_bands(0, 7)) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system tells no peak that can be set back")
@pytest.mark.parametrize(
    ("made", "most"),
    [
        (lambda: saved(Image.fromarray(colours(3)), "JPEG"), 1.3),
        (lambda: saved(Image.fromarray(colours(4)), "TIFF"), 2.3),
        (lambda: tiff(colours(3).astype(np.uint16) * 257), 3.9),
    ],
    ids=["JPEG", "transparent", "16 bits"],
)
def test_an_image_is_decoded_in_little_more_memory_than_its_pixels(made: Callable[[], bytes], most: float) -> None:
    data = made()
    Path("/proc/self/clear_refs").write_text(PEAK)
    before = in_memory("VmRSS")
    pixels = images.decode(data)
    assert pixels.size == (SIDE, SIDE)
    assert in_memory("VmHWM") - before < most * IN_MEMORY


def in_memory(what: str) -> int:
    """Bytes that are in memory now, or were at most."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) << 10
