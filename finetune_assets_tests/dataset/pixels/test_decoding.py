import io
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from finetune_assets.dataset.pixels import decoding
from finetune_assets.dataset.pixels.window import Scale, Shown, to_eight_bits
from finetune_assets.errors import ImageError
from finetune_assets_tests.dataset.pixels.files import png, tiff

RAMP = np.linspace(0, 4095, 64 * 64).reshape(64, 64)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], -1).astype(np.uint16)
ORDERS = ["<", ">"]


def shown(data: bytes, window: tuple[float, float] | None = None) -> Shown:
    return decoding.shown(data, Image.open(io.BytesIO(data)), window)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(shown(data).image)


def scale(data: bytes) -> Scale:
    found = shown(data).scale
    assert found is not None
    return found


def expected(values: np.ndarray) -> np.ndarray:
    return np.asarray(to_eight_bits(values).image.convert("RGB"))


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.uint16),
        (RAMP - 1024).astype(np.int16),
        (RAMP * 1e5 - 2e8).astype(np.int32),
        (RAMP / 4095).astype(np.float32),
        COLOURS,
    ],
    ids=["uint16", "int16", "int32", "float32", "colours"],
)
def test_a_tiff_of_any_depth_and_byte_order_shows_its_values(
    values: np.ndarray, order: Literal["<", ">"], deflate: bool
) -> None:
    assert np.array_equal(pixels(tiff(values, order, deflate=deflate)), expected(values))


def test_unsigned_32_bits_are_not_negative() -> None:
    values = (RAMP * 1e6).astype(np.uint32)
    assert values.max() > 2**31
    assert np.array_equal(pixels(tiff(values)), expected(values))


def test_signed_bytes_are_not_unsigned() -> None:
    values = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    assert pixels(tiff(values))[..., 0].reshape(-1).tolist() == list(range(256))


def test_white_is_low_where_the_tiff_says_so() -> None:
    values = RAMP.astype(np.uint16)
    assert np.array_equal(pixels(tiff(values, t262=0)), 255 - expected(values))


@pytest.mark.parametrize("channels", [3, 4])
def test_a_png_of_16_bits_a_colour_keeps_what_pillow_drops(channels: int) -> None:
    values = np.dstack([COLOURS, np.full((64, 64), 65535, np.uint16)])[..., :channels]
    assert np.array_equal(pixels(png(values))[..., :3], expected(COLOURS))


def test_greys_of_16_bits_with_alpha_keep_both() -> None:
    values = np.stack([RAMP, np.where(RAMP > 2000, 65535, 0)], -1).astype(np.uint16)
    found = shown(png(values)).image
    assert found.mode == "RGBA"
    assert np.array_equal(np.asarray(found)[..., 0], expected(values[..., 0])[..., 0])
    assert set(np.asarray(found)[..., 3].ravel().tolist()) == {0, 255}


def test_a_transparent_grey_is_transparent() -> None:
    values = RAMP.astype(np.uint16)
    assert (np.asarray(shown(png(values, transparent=0)).image)[..., 3] == 0).sum() == (values == 0).sum()


def test_significant_bits_are_the_range_where_the_values_are_within_them() -> None:
    dim = (RAMP * 0.9).astype(np.uint16)
    assert (scale(png(dim, significant=12)).high, scale(png(dim)).high) == (4095, dim.max())


def test_a_declared_range_is_taken_if_it_keeps_the_greys() -> None:
    values = (RAMP - 1024).astype(np.int16)
    assert scale(tiff(values, "<", t340=0, t341=3000)).by == "file"
    assert scale(tiff(values, "<", t340=0, t341=60_000)) == Scale(32, -1024, 3071, "image")


def test_colours_whose_planes_lie_apart_are_refused_and_not_read_as_bytes() -> None:
    with pytest.raises(ImageError, match="image_wrong_mode"):
        shown(tiff(COLOURS, t284=2))


def test_a_turned_deep_image_is_shown_upright() -> None:
    values = RAMP.reshape(128, 32).astype(np.uint16)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(values).save(buffer, "PNG", exif=exif)
    assert np.array_equal(pixels(buffer.getvalue()), np.rot90(expected(values), -1))


@pytest.mark.parametrize(
    ("data", "deep"),
    [
        (png(COLOURS), True),
        (tiff(COLOURS, ">"), True),
        (tiff(RAMP.astype(np.uint16)), True),
        (tiff((RAMP / 16).astype(np.uint8)), False),
    ],
)
def test_what_has_more_than_8_bits_is_deep(data: bytes, deep: bool) -> None:
    assert decoding.is_deep(Image.open(io.BytesIO(data))) is deep
