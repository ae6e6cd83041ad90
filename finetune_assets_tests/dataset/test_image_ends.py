import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from finetune_assets.dataset.image_ends import end_of
from finetune_assets_tests.dataset.pictures import picture

FORMATS = ["PNG", "JPEG", "WEBP"]


def progressive() -> bytes:
    """A JPEG of several scans, with a picture of its own in its EXIF data."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x9286] = picture("JPEG")
    Image.radial_gradient("L").save(buffer, "JPEG", progressive=True, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", FORMATS)
@given(rest=st.binary(max_size=40))
def test_a_picture_ends_where_it_ends_whatever_follows(image_format: str, rest: bytes) -> None:
    data = picture(image_format)
    assert end_of(data + rest) == len(data)


@pytest.mark.parametrize("image_format", FORMATS)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_picture_without_its_end_has_none(image_format: str, part: float) -> None:
    data = picture(image_format, size=(32, 32))
    cut = data[: max(12, int(part * len(data)))]
    assert end_of(cut) is None


def test_a_jpeg_of_many_scans_ends_after_the_last() -> None:
    data = progressive()
    assert data.count(b"\xff\xda") > 5 and data.count(b"\xff\xd9") > 1
    assert end_of(data + b"\xff\xd9") == len(data)
    assert end_of(data[:-2]) is None


@given(st.binary(max_size=200))
def test_any_bytes_have_an_end_within_them_or_none(noise: bytes) -> None:
    for beginning in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"):
        end = end_of(beginning + noise)
        assert end is None or 0 <= end <= len(beginning + noise)
