import base64
import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from finetune_assets.dataset import image_headers, images
from finetune_assets.errors import ImageError
from finetune_assets_tests.dataset.pictures import picture, put

FORMATS = ["PNG", "JPEG", "WEBP"]
Look = Callable[[bytes], object]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def reason(error: pytest.ExceptionInfo[ImageError]) -> str:
    return error.value.reason


def text_chunk() -> PngInfo:
    info = PngInfo()
    info.add_text("Patient", "Jane Doe")
    return info


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 30,000 x 30,000 pixels."""
    data = bytearray(picture())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_inspect_tells_hash_size_mode_and_format() -> None:
    data = picture("PNG", "L", (12, 8))
    facts = images.inspect(data)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert (facts.width, facts.height, facts.mode, facts.format) == (12, 8, "L", "PNG")


def test_inspect_shows_the_image_in_1024_greys() -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:, 32:] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    seen = np.frombuffer(images.inspect(buffer.getvalue()).thumbnail, np.uint8).reshape(32, 32)
    assert (seen[:, :15] == 0).all() and (seen[:, 17:] == 200).all()


def test_an_animation_is_refused_with_its_number_of_frames() -> None:
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 90, 255)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="image_animated: it has 3 frames"):
        images.inspect(buffer.getvalue())


def test_an_image_of_one_grey_is_blank_and_one_of_one_colour_is_not() -> None:
    for shade in (0, 128, 255):
        with pytest.raises(ImageError, match=f"image_blank: all its pixels are the same grey, {shade} of 255"):
            images.inspect(encoded(Image.new("RGB", (8, 8), (shade, shade, shade))))
    assert images.inspect(encoded(Image.new("RGB", (8, 8), (255, 0, 0)))).contrast == 0


def test_transparency_alone_shows_nothing() -> None:
    with pytest.raises(ImageError, match="image_blank"):
        images.inspect(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))))


def test_the_contrast_of_a_faint_image_is_exact() -> None:
    faint = np.full((400, 400), 100, np.uint8)
    faint[7, 7] = 104
    assert images.inspect(encoded(Image.fromarray(faint))).contrast == 4


@pytest.mark.parametrize("size", [(1, 40), (40, 1)])
def test_an_image_that_is_one_pixel_wide_or_high_is_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"image_too_small: it has {size[0]} x {size[1]} pixels"):
        images.inspect(picture(size=size))


def deep() -> bytes:
    """A picture of 12 bits in 16, as X-ray detectors write them."""
    return encoded(Image.fromarray(np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)))


def test_a_deep_image_is_seen_alike_by_everyone() -> None:
    facts = images.inspect(deep())
    assert facts.scale is not None and (facts.scale.bits, facts.scale.low, facts.scale.high) == (16, 0, 4095)
    assert not facts.fit and facts.in_eight_bits is not None
    made = images.inspect(facts.in_eight_bits)
    assert made.fit and made.thumbnail == facts.thumbnail
    seen = [images.for_training(deep())[0], images.for_browser(deep())[0], facts.in_eight_bits]
    pixels = [np.asarray(opened(data).convert("RGB")) for data in seen] + [np.asarray(images.decode(deep()))]
    assert all(np.array_equal(pixels[0], other) for other in pixels[1:])
    assert len(np.unique(pixels[0])) == 256


def test_the_window_of_a_task_is_what_a_deep_image_shows() -> None:
    facts = images.inspect(deep(), (1000, 2000))
    shown = np.asarray(opened(facts.in_eight_bits or b""))
    assert facts.scale is not None and facts.scale.by == "task"
    assert (shown[:15] == 0).all() and (shown[32:] == 255).all()


def film(size: int = 3000) -> bytes:
    """What telephones write behind a picture; its bytes hold markers of JPEG files by chance."""
    return b"\0\0\0\x1cftypmp42" + b"\xff\xda\xff\xd9\xff\xda" * (size // 6)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_picture_with_a_film_behind_it_is_whole_and_its_film_goes_nowhere(image_format: str) -> None:
    data = picture(image_format, size=(64, 64))
    facts = images.inspect(data + film())
    assert not facts.fit and facts.format == image_format
    assert images.for_training(data + film())[0] == data


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_picture_that_is_cut_off_is_truncated_though_a_film_follows(image_format: str) -> None:
    data = picture(image_format, size=(64, 64))
    with pytest.raises(ImageError):
        images.inspect(data[: len(data) // 2] + film())


def tagged(tag: int, value: object) -> Image.Exif:
    exif = Image.Exif()
    exif[tag] = value
    return exif


@pytest.mark.parametrize(
    ("data", "fit"),
    [
        (picture("PNG", "RGB"), True),
        (picture("JPEG", "RGB"), True),
        (picture("WEBP", "RGBA"), True),
        (picture("PNG", "L"), False),
        (picture("BMP", "RGB"), False),
        (picture("JPEG", "RGB", exif=tagged(0x0112, 6)), False),
        (picture("JPEG", "RGB", exif=tagged(0x013B, "Jane Doe")), False),
        (picture("JPEG", "RGB", comment=b"Jane Doe"), False),
        (picture("PNG", "RGB", pnginfo=text_chunk()), False),
    ],
)
def test_an_image_is_fit_if_a_provider_takes_it_and_it_tells_of_nobody(data: bytes, fit: bool) -> None:
    assert images.inspect(data).fit is fit
    made, _ = images.for_training(data)
    assert (made == data) is fit
    assert b"Jane Doe" not in made
    assert images.inspect(made).fit


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("look", [images.inspect, image_headers.header, images.for_training, images.decode])
def test_an_image_cut_off_at_any_quarter_is_truncated(image_format: str, look: Look) -> None:
    data = picture(image_format, size=(64, 64))
    for part in (1, 2, 3):
        with pytest.raises(ImageError) as error:
            look(data[: len(data) * part // 4])
        assert reason(error) == "image_truncated"


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("look", [images.inspect, image_headers.header])
def test_an_image_that_lacks_its_last_bytes_is_truncated(image_format: str, look: Look) -> None:
    data = picture(image_format, size=(64, 64))
    for missing in range(1, 24):
        with pytest.raises(ImageError) as error:
            look(data[:-missing])
        assert reason(error) == "image_truncated"
        assert f"ends after {len(data) - missing} bytes" in error.value.detail


@pytest.mark.parametrize("image_format", ["BMP", "GIF", "TIFF"])
def test_other_formats_are_truncated_too(image_format: str) -> None:
    data = picture(image_format, "L", size=(64, 64))
    with pytest.raises(ImageError) as error:
        images.inspect(data[: len(data) // 2])
    assert reason(error) == "image_truncated"


@pytest.mark.parametrize("image_format", FORMATS)
def test_an_image_with_damage_in_its_middle_is_unreadable_and_not_truncated(image_format: str) -> None:
    data = picture(image_format, size=(64, 64))
    with pytest.raises(ImageError) as error:
        images.inspect(data[:14] + bytes(20) + data[34:])
    assert reason(error) == "image_unreadable"


def test_a_png_with_one_changed_byte_fails_its_checksum_in_the_header_check() -> None:
    data = bytearray(picture())
    data[data.index(b"IDAT") + 6] ^= 1
    with pytest.raises(ImageError, match="image_unreadable"):
        image_headers.header(bytes(data))


def test_bytes_that_are_no_image_are_named_by_their_beginning() -> None:
    with pytest.raises(ImageError, match="13 bytes beginning b'<!DOCTYP'"):
        images.inspect(b"<!DOCTYPE htm")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("look", [images.inspect, image_headers.header, images.for_training])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(look: Look) -> None:
    with pytest.raises(ImageError) as error:
        look(bomb())
    assert reason(error) == "image_too_large"


@given(st.binary(max_size=60), st.sampled_from(FORMATS), st.integers(0, 200))
def test_damaged_bytes_raise_nothing_but_image_errors(noise: bytes, image_format: str, position: int) -> None:
    whole = picture(image_format)
    for damaged in (noise, whole[:position] + noise + whole[position:], whole[:position] + noise):
        for look in (images.inspect, image_headers.header, images.for_training, images.decode):
            try:
                look(damaged)
            except ImageError as error:
                assert error.reason in ("image_unreadable", "image_truncated", "image_too_large", "image_blank")


def test_read_returns_the_bytes_and_names_what_is_missing(tmp_path: Path) -> None:
    assert images.read(put(tmp_path / "a.png", b"abc")) == b"abc"
    with pytest.raises(ImageError, match=r"image_missing: there is no file '.*b\.png'"):
        images.read(tmp_path / "b.png")


@pytest.mark.parametrize("path", ["", "a\0b.png"])
def test_read_of_a_folder_or_an_impossible_name_is_unreadable(tmp_path: Path, path: str) -> None:
    with pytest.raises(ImageError) as error:
        images.read(f"{tmp_path}/{path}")
    assert reason(error) == "image_unreadable"


@pytest.mark.parametrize(("image_format", "mime"), images.MIME_TYPES.items())
def test_fit_images_pass_through_untouched(image_format: str, mime: str) -> None:
    data = picture(image_format, "RGB")
    assert images.for_training(data) == (data, mime)


def test_an_alpha_channel_in_which_nothing_shows_through_is_fit() -> None:
    data = picture("PNG", "RGBA")
    assert images.for_training(data) == (data, "image/png")


@pytest.mark.parametrize(("image_format", "mode"), [("PNG", "L"), ("PNG", "1"), ("TIFF", "L"), ("BMP", "RGB")])
def test_other_modes_and_formats_become_rgb_png_without_a_changed_pixel(image_format: str, mode: str) -> None:
    data = picture(image_format, mode)
    made, mime = images.for_training(data)
    assert (mime, opened(made).mode) == ("image/png", "RGB")
    assert np.array_equal(np.asarray(opened(made)), np.asarray(opened(data).convert("RGB")))


def test_a_palette_with_transparency_lies_on_white() -> None:
    source = Image.new("P", (4, 4), 0)
    source.putpalette([255, 0, 0, 0, 255, 0])
    buffer = io.BytesIO()
    source.save(buffer, "PNG", transparency=0)
    made, _ = images.for_training(buffer.getvalue())
    assert opened(made).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_that_is_in_its_alpha_channel_alone_is_sent_as_it_is_seen() -> None:
    drawn = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    drawn.paste((0, 0, 0, 255), (2, 2, 6, 6))
    data = encoded(drawn)
    made, _ = images.for_training(data)
    assert not images.inspect(data).fit
    assert opened(made).mode == "RGB", "a reader without transparency would see black alone"
    assert opened(made).tobytes() == images.decode(data).tobytes()


def test_16_bit_greys_are_scaled_not_clipped() -> None:
    greys = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(greys).save(buffer, "PNG")
    made, _ = images.for_training(buffer.getvalue())
    assert np.asarray(opened(made))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_an_image_turned_by_exif_is_stored_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees: 12 x 8 is shown as 8 x 12
    made, mime = images.for_training(picture("JPEG", "RGB", (12, 8), exif=exif))
    assert (mime, opened(made).size, opened(made).getexif().get(0x0112)) == ("image/jpeg", (8, 12), None)


def test_an_image_above_10_mib_is_made_as_large_as_the_provider_looks_at_it() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG", compress_level=0)
    assert len(buffer.getvalue()) > images.MAX_TRAINING_BYTES
    for detail, side in (("low", 512), ("high", 768)):
        made, mime = images.for_training(buffer.getvalue(), detail)
        assert (mime, opened(made).size) == ("image/png", (side, side))


def test_an_image_that_is_small_enough_is_not_resized() -> None:
    made, _ = images.for_training(picture("PNG", "L", (512, 40)))
    assert opened(made).size == (512, 40)


def test_decode_puts_transparent_parts_on_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(buffer, "PNG")
    decoded = images.decode(buffer.getvalue())
    assert (decoded.mode, decoded.getpixel((0, 0))) == ("RGB", (255, 255, 255))


@given(st.binary())
def test_a_data_url_holds_the_bytes(data: bytes) -> None:
    head, payload = images.data_url(data, "image/png").split(",")
    assert (head, base64.b64decode(payload)) == ("data:image/png;base64", data)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_browser_gets_what_it_can_show_untouched(image_format: str) -> None:
    data = picture(image_format)
    assert images.for_browser(data) == (data, images.MIME_TYPES[image_format])


@pytest.mark.parametrize(("image_format", "mode"), [("TIFF", "L"), ("BMP", "RGB")])
def test_a_browser_gets_anything_else_as_png_with_every_pixel(image_format: str, mode: str) -> None:
    data = picture(image_format, mode, (40, 30))
    shown, mime = images.for_browser(data)
    assert (mime, opened(shown).format) == ("image/png", "PNG")
    assert images.decode(shown).tobytes() == images.decode(data).tobytes()


def test_a_small_image_for_a_table_keeps_its_shape() -> None:
    shown, mime = images.for_browser(picture("PNG", "LA", (400, 200)), 100)
    assert (mime, opened(shown).size) == ("image/jpeg", (100, 50))


def test_a_broken_image_is_refused_before_a_browser_gets_it() -> None:
    with pytest.raises(ImageError):
        images.for_browser(picture()[:50])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0 ftypavif....", "it is an AVIF image; save it as PNG or JPEG"),
        (b"\0\0\0 ftypheic....", "it is a HEIC image"),
        (b"\0\0\0 ftypqt  ....", "it is a film"),
        (b"\0\0\0\x0cjP  \r\n", "it is a JPEG 2000 image"),
        (b"P5\n8 8\n4095\n" + bytes(128), "it is a Netpbm image (PGM, PPM); save it as PNG, with 16 bits"),
        (bytes(128) + b"DICM" + bytes(20), "it is a DICOM file; read it by `kind: dicom`"),
        (b"\x93NUMPY\x01\0", "it is an array of NumPy"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "it is a drawing (SVG)"),
        (b"II*\0\x08\0\0\0\0\0" + bytes(40), "it is a TIFF file of a kind that is not read"),
    ],
)
def test_an_image_of_a_format_that_is_not_read_is_named_with_what_to_do(data: bytes, words: str) -> None:
    with pytest.raises(ImageError) as error:
        images.inspect(data)
    assert reason(error) == "image_unreadable" and words in str(error.value)
