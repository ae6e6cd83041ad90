"""Bands: what they cover, and that a large image is turned into RGB in little more memory than its pixels."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune_assets.dataset.pixels.bands import BAND_PIXELS, bands, row_bands
from finetune_assets_tests.dataset.pixels.files import tiff

SIDE = 2500
IN_MEMORY = 4 * SIDE * SIDE
"""Bytes that Pillow needs for the RGB pixels: four for each."""
BANDS = 6 * 4 * BAND_PIXELS
"""Bytes of the bands that may be at hand at once: as stored, as numbers, scaled, and as colours."""
DECODE = """
import re, sys
from pathlib import Path
from finetune_assets.dataset import images

def in_memory(what):
    return int(re.search(what + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

small, large = (Path(path).read_bytes() for path in sys.argv[1:])
images.decode(small)
Path("/proc/self/clear_refs").write_text("5")  # the peak is what is in memory now
before = in_memory("VmRSS")
pixels = images.decode(large)
print(in_memory("VmHWM") - before)
"""
"""Prints the bytes that decoding took at most."""


def saved(image: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def colours(side: int, n: int) -> np.ndarray:
    greys = np.linspace(0, 255, side).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None], (side, side, n)).copy()


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
        (lambda side: saved(Image.fromarray(colours(side, 3)), "JPEG"), 1.05),
        (lambda side: saved(Image.fromarray(colours(side, 4)), "TIFF"), 2.05),
        (lambda side: tiff(colours(side, 3).astype(np.uint16) * 257), 3.55),
    ],
    ids=["JPEG", "transparent", "16 bits"],
)
def test_an_image_is_decoded_in_little_more_memory_than_its_pixels(
    made: Callable[[int], bytes], most: float, tmp_path: Path
) -> None:
    # A process of its own: what tests before this one have freed may be used again or not. A small image of the kind
    # loads what it needs.
    for name, side in (("small", 16), ("large", SIDE)):
        (tmp_path / name).write_bytes(made(side))
    command = [sys.executable, "-c", DECODE, str(tmp_path / "small"), str(tmp_path / "large")]
    n_bytes = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert n_bytes < most * IN_MEMORY + BANDS
