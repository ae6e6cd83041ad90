import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from finetune_assets.dataset.pixels import decoding
from finetune_assets.errors import ImageError

GREEN = (30, 200, 60)


def opened(image: Image.Image, image_format: str, **options: Any) -> tuple[bytes, Any]:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue(), Image.open(io.BytesIO(buffer.getvalue()))


def colour(image: Image.Image, image_format: str = "PNG", **options: Any) -> tuple[int, ...]:
    found = decoding.shown(*opened(image, image_format, **options)).image.getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


def swapped() -> bytes:
    """The profile sRGB with the primaries of red and green exchanged: wider gamuts are no other in kind."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = profile[green : green + 4], profile[red : red + 4]
    return bytes(profile)


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_colours_of_a_profile_become_those_of_srgb() -> None:
    image = Image.new("RGB", (4, 4), GREEN)
    assert np.abs(np.subtract(colour(image, icc_profile=swapped()), (200, 30, 60))).max() <= 2
    assert not decoding.is_plain(opened(image, "PNG", icc_profile=swapped())[1])


def test_a_profile_that_is_srgb_leaves_everything_as_it_is() -> None:
    image = Image.new("RGB", (4, 4), GREEN)
    assert decoding.is_plain(opened(image, "PNG", icc_profile=srgb())[1])
    assert colour(image, icc_profile=srgb()) == GREEN


def test_transparency_survives_a_profile() -> None:
    assert colour(Image.new("RGBA", (4, 4), (*GREEN, 77)), icc_profile=swapped())[3] == 77


def test_a_damaged_profile_is_passed_over_as_browsers_do() -> None:
    assert colour(Image.new("RGB", (4, 4), GREEN), icc_profile=b"no profile") == GREEN


def test_lab_is_converted() -> None:
    # CIE L*a*b* (50, 0, 0) is a grey of 119 in sRGB, (53, 80, 67) its red.
    assert colour(Image.new("LAB", (4, 4), (128, 128, 128)), "TIFF") == (119, 119, 119)
    red = colour(Image.new("LAB", (4, 4), (136, 128 + 80, 128 + 67)), "TIFF")
    assert red[0] > 245 and max(red[1:]) < 20


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_refused_as_nobody_knows_its_colours(image_format: str) -> None:
    with pytest.raises(ImageError, match="image_wrong_mode: its pixels are CMYK without a colour profile"):
        colour(Image.new("CMYK", (4, 4)), image_format)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "L"])
def test_modes_of_few_colours_show_the_same(mode: str) -> None:
    image = Image.new("RGB", (4, 4), "white").convert(mode)
    assert colour(image)[:3] == (255, 255, 255)
