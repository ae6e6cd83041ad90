"""Images as bytes: what they are, whether they are whole, what they look like, and how a provider wants them.

The only room that knows Pillow. Bytes come from anywhere, so sizes are limited before anything is decoded,
only well-known formats are tried, and whatever a decoder objects to becomes an `ImageError` with a quarantine code.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pybase64
from PIL import Image, ImageDraw, ImageFont, ImageOps
from upath import UPath

from finetune_assets.errors import ImageError

MAX_TRAINING_BYTES = 10 * 1024 * 1024
"""Largest image a provider trains on (OpenAI's vision fine-tuning guide)."""
MAX_FILE_BYTES = 128 * 1024 * 1024
MAX_PIXELS = 64_000_000
MAX_SHEET_BYTES = 150_000
THUMBNAIL_SIDE = 32
DETAIL_SIZES = {"low": (512, 512), "high": (2048, 768)}
"""Longest and shortest side in pixels of what a provider looks at, by the detail asked for."""
MIME_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_READABLE = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_ORIENTATION = 0x0112
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes whose colours are the same in RGB."""
_PRIVATE = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif", "photoshop", "comment"}
"""What Pillow finds beside the pixels that may tell of people and places; text chunks of PNG are looked at too."""
# What Pillow's decoders were seen to raise on damaged bytes, beyond the OSError they document.
_DECODER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError,
                   RuntimeError, struct.error, zlib.error, MemoryError)  # fmt: skip
_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
_JPEG_BEGIN = b"\xff\xd8\xff"
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image that decodes in full. Sizes in pixels; `mode` and `format` in Pillow's words."""

    sha256: str
    width: int
    height: int
    mode: str
    format: str
    fit: bool
    """Whether a provider takes the bytes as they are, and nothing in them should stay at home."""
    thumbnail: bytes
    """32 rows of 32 grey pixels, for comparisons."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the first bytes of an image say. Sizes in pixels; `mode` and `format` in Pillow's words."""

    width: int
    height: int
    mode: str
    format: str


def read(path: str | Path | UPath) -> bytes:
    """Read the bytes of an image file.

    Raises:
        ImageError: `image_missing` if there is no such file, `image_unreadable` if it cannot be opened,
            `image_too_large` above 128 MiB.
    """
    return read_dated(path)[0]


def read_dated(path: str | Path | UPath) -> tuple[bytes, int | None]:
    """Read the bytes of an image file, and when it was last modified.

    Returns:
        The bytes, and the time in nanoseconds since 1970, or None where the file is not a local one.

    Raises:
        ImageError: as `read`.
    """
    try:
        if "://" in str(path):
            with UPath(path).open("rb") as file:
                data, modified_ns = file.read(MAX_FILE_BYTES + 1), None
        else:
            # An fsspec path takes ten times as long to open, and a buffer doubles the time of small files. To ask for
            # more than there is takes memory for all of it.
            with open(str(path), "rb", buffering=0) as file:  # noqa: PTH123
                facts = os.fstat(file.fileno())
                data, modified_ns = file.read(min(facts.st_size, MAX_FILE_BYTES) + 1), facts.st_mtime_ns
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("image_missing", f"there is no file {str(path)!r}") from error
    except (OSError, ValueError) as error:
        raise ImageError("image_unreadable", f"{str(path)!r} cannot be read: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("image_too_large", f"{str(path)!r} has more than {MAX_FILE_BYTES // 2**20} MiB")
    return data, modified_ns


def header(data: bytes) -> ImageHeader:
    """Look at an image without decoding its pixels (some 30 µs), and check that its bytes are all there.

    PNG is checked by its checksums, JPEG by its end marker, WEBP by its stated length.

    Raises:
        ImageError: `image_unreadable`, `image_truncated` or `image_too_large`.
    """
    with _opened(data) as image:
        found = _header_of(image)
        if found.format == "PNG":
            image.verify()
        # Pillow takes a PNG without its end for whole, and other formats until their pixels are decoded.
        if found.format in MIME_TYPES and _is_cut_off(data):
            raise ImageError(
                "image_truncated", f"the {found.format} file ends after {len(data):,} bytes; copy it again"
            )
    return found


def inspect(data: bytes) -> ImageFacts:
    """Decode an image in full and say what it is.

    Raises:
        ImageError: `image_unreadable` (no image, unknown format, damaged), `image_truncated` (its end is missing),
            `image_too_large` (more than 64 million pixels, whatever the file's size), `image_animated` (more than one
            frame) or `image_wrong_mode` (colours that are not the same in RGB).
    """
    found = header(data)
    with _opened(data) as image:
        # The second picture of an MPO, which many telephones write, is a preview of the first.
        if (n_frames := getattr(image, "n_frames", 1)) > 1 and found.format != "MPO":
            raise ImageError("image_animated", f"it has {n_frames} frames; export the one that is meant")
        if found.mode not in _MODES:
            raise ImageError("image_wrong_mode", f"its pixels are {found.mode}; export it as RGB or greyscale")
        image.load()
        fit, thumbnail = _is_fit(image, len(data)), _thumbnail(image)
    digest = hashlib.sha256(data).hexdigest()
    return ImageFacts(digest, found.width, found.height, found.mode, found.format, fit, thumbnail)


def decode(data: bytes) -> Image.Image:
    """Decode an image to upright RGB pixels, transparent parts on white.

    Raises:
        ImageError: as `inspect`.
    """
    with _opened(data) as image:
        return _on_white(_upright_rgb(image))


def for_training(data: bytes, detail: str = "low") -> tuple[bytes, str]:
    """Make an image fit for a provider, RGB(A), upright, JPEG, PNG or WEBP of at most 10 MiB, and name its MIME type.

    Bytes that are fit already pass through untouched. Others are turned as EXIF says, made no larger than what the
    provider looks at, and encoded again without metadata: JPEG as JPEG, anything else as PNG.

    Args:
        data: The bytes of the image.
        detail: "low" or "high", as the prompt asks for it.

    Raises:
        ImageError: as `inspect`, except that of several frames the first is taken.
    """
    with _opened(data) as image:
        image.load()
        if _is_fit(image, len(data)):
            return data, MIME_TYPES[str(image.format)]
        image_format = image.format
        pixels = _upright_rgb(image)
    # Pillow would write comments and profiles into the new file.
    pixels.info.clear()
    longest, shortest = DETAIL_SIZES[detail]
    scale = min(1.0, longest / max(pixels.size), shortest / min(pixels.size))
    if scale < 1:
        size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
        pixels = pixels.resize(size, Image.Resampling.LANCZOS)
    if image_format in ("JPEG", "MPO"):
        return _encode(pixels.convert("RGB"), "JPEG", quality=95), "image/jpeg"
    # Level 4 takes half the time of Pillow's default 6 for a tenth more bytes; no pixel differs.
    return _encode(pixels, "PNG", compress_level=4), "image/png"


def for_browser(data: bytes, side: int | None = None) -> tuple[bytes, str]:
    """Make an image that every browser shows, and name its MIME type; in full, or at most `side` pixels long and high.

    In full, JPEG, PNG and WEBP pass through untouched, others become PNG without losing a pixel.

    Raises:
        ImageError: as `inspect`, except that of several frames the first is taken.
    """
    with _opened(data) as image:
        if side is None and image.format in MIME_TYPES:
            image.load()
            return data, MIME_TYPES[image.format]
        image.load()
        pixels = _upright_rgb(image)
    pixels.info.clear()
    if side is None:
        return _encode(pixels, "PNG", compress_level=4), "image/png"
    pixels.thumbnail((side, side))
    return _encode(_on_white(pixels), "JPEG", quality=85), "image/jpeg"


def data_url(data: bytes, mime: str) -> str:
    """Inline the bytes as a `data:` URL."""
    return b"".join(data_url_parts(data, mime)).decode("ascii")


def data_url_parts(data: bytes, mime: str) -> tuple[bytes, bytes]:
    """Inline the bytes as a `data:` URL in ASCII: its head and its payload, which may be megabytes, uncopied."""
    return b"data:%b;base64," % mime.encode(), pybase64.b64encode(data)


def contact_sheet(rows: Sequence[tuple[str | Path | UPath, str]], columns: int = 8, thumb: int = 96) -> bytes:
    """Draw small images with a caption under each as a PNG of at most 150 kB; a broken image is a crossed cell.

    Args:
        rows: Path and caption of each image, in reading order. Captions are cut to the width of a cell.
        columns: Images in a line.
        thumb: Side of an image in pixels; made smaller where the sheet would be too big.
    """
    columns = max(1, min(columns, len(rows)))
    room_for_words = 16 if any(caption for _, caption in rows) else 0
    cell = (thumb + 8, thumb + 8 + room_for_words)
    sheet = Image.new("RGB", (columns * cell[0], max(1, math.ceil(len(rows) / columns)) * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for index, (path, caption) in enumerate(rows):
        left, top = index % columns * cell[0] + 4, index // columns * cell[1] + 4
        try:
            picture = decode(read(path))
            picture.thumbnail((thumb, thumb))
            x, y = left + (thumb - picture.width) // 2, top + (thumb - picture.height) // 2
            # White images would run into each other.
            draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline="#d5dae0")
            sheet.paste(picture, (x, y))
        except ImageError:
            box = (left, top, left + thumb - 1, top + thumb - 1)
            draw.rectangle(box, outline="#bb3333")
            draw.line(box, fill="#bb3333")
        fitting = next(text for n in range(len(caption), -1, -1) if draw.textlength(text := caption[:n], font) <= thumb)
        draw.text((left, top + thumb + 2), fitting, fill="#222222", font=font)
    return _encode_below(sheet, MAX_SHEET_BYTES)


def draw_texts(size: tuple[int, int], texts: Sequence[tuple[str, str, tuple[int, int]]], height: int) -> bytes:
    """Draw texts on white as a PNG, each in its colour and centred on its point; sizes and points in pixels."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=height)
    for text, colour, point in texts:
        draw.text(point, text, fill=colour, font=font, anchor="mm")
    return _encode(picture, "PNG", compress_level=4)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open without decoding, refuse too many pixels, and turn every decoder's complaint into an `ImageError`."""
    try:
        image = Image.open(io.BytesIO(data), formats=_READABLE)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError("image_too_large", f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
        with image:
            yield image
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", str(error)) from error
    except _DECODER_ERRORS as error:
        if _is_cut_off(data) or "truncated" in str(error).lower():
            raise ImageError("image_truncated", f"it ends after {len(data):,} bytes; copy it again") from error
        if isinstance(error, Image.UnidentifiedImageError):
            detail = f"{len(data)} bytes beginning {data[:8]!r} are none of {', '.join(_READABLE)}"
            raise ImageError("image_unreadable", detail) from error
        raise ImageError("image_unreadable", f"{type(error).__name__}: {error}") from error


def _is_cut_off(data: bytes) -> bool:
    """Whether the bytes begin as PNG, JPEG or WEBP does and lack the end that the format prescribes."""
    if data.startswith(_PNG_BEGIN):
        return _PNG_END not in data
    if data.startswith(_JPEG_BEGIN):
        # Inside compressed data 0xFF is always escaped, so an end marker after the last scan is the real one.
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False


def _header_of(image: Image.Image) -> ImageHeader:
    return ImageHeader(image.width, image.height, image.mode, str(image.format))


def _is_fit(image: Image.Image, n_bytes: int) -> bool:
    return (
        image.format in MIME_TYPES
        and image.mode in ("RGB", "RGBA")
        and n_bytes <= MAX_TRAINING_BYTES
        and image.getexif().get(_ORIENTATION, 1) == 1
        and not _PRIVATE & image.info.keys()
        and not getattr(image, "text", None)
    )


def _thumbnail(image: Image.Image) -> bytes:
    upright = image if image.mode in ("L", "RGB") else _on_white(_upright_rgb(image))
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return ImageOps.exif_transpose(upright).convert("L").resize(side, Image.Resampling.BILINEAR).tobytes()


def _on_white(image: Image.Image) -> Image.Image:
    """An RGB(A) image without transparency."""
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _upright_rgb(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where there is transparency, turned as EXIF says."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ImageError("image_wrong_mode", "its pixels are floating-point numbers; export it with 8 or 16 bits")
    if upright.mode.startswith("I"):
        # Pillow clips 16-bit greys at 255 instead of scaling them, which would leave a medical image white.
        upright = upright.convert("I").point(lambda grey: grey * (1 / 256)).convert("L")
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _encode(image: Image.Image, image_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _encode_below(sheet: Image.Image, max_bytes: int) -> bytes:
    """Encode a PNG of at most `max_bytes`: with fewer colours first, then smaller."""
    while True:
        for colours in (128, 64, 32):
            encoded = io.BytesIO()
            sheet.quantize(colours, dither=Image.Dither.NONE).save(encoded, "PNG", optimize=True)
            if encoded.tell() <= max_bytes or max(sheet.size) < 64:
                return encoded.getvalue()
        sheet = sheet.resize((sheet.width * 3 // 4, sheet.height * 3 // 4), Image.Resampling.LANCZOS)
