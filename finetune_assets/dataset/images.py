"""Images as bytes: what they are, whether they are whole, and how a provider wants them.

The only room that knows Pillow. Bytes come from anywhere, so sizes are limited before anything is decoded,
only well-known formats are tried, and whatever a decoder objects to becomes an `ImageError` with a quarantine code.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from upath import UPath

from finetune_assets.errors import ImageError

MAX_TRAINING_BYTES = 10 * 1024 * 1024
"""Largest image a provider trains on (OpenAI's vision fine-tuning guide)."""
MAX_FILE_BYTES = 128 * 1024 * 1024
MAX_PIXELS = 64_000_000
MAX_SHEET_BYTES = 150_000
MIME_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_READABLE = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_ORIENTATION = 0x0112
# What Pillow's decoders were seen to raise on damaged bytes, beyond the OSError they document.
_DECODER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError,
                   RuntimeError, struct.error, zlib.error, MemoryError)  # fmt: skip
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image that decodes in full. Sizes in pixels; `mode` and `format` in Pillow's words."""

    sha256: str
    width: int
    height: int
    mode: str
    format: str


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
    try:
        with UPath(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("image_missing", f"there is no file {str(path)!r}") from error
    except (OSError, ValueError) as error:
        raise ImageError("image_unreadable", f"{str(path)!r} cannot be read: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("image_too_large", f"{str(path)!r} has more than {MAX_FILE_BYTES // 2**20} MiB")
    return data


def header(data: bytes) -> ImageHeader:
    """Look at an image without decoding its pixels (some 30 µs), and check that its bytes are all there.

    PNG is checked by its checksums, JPEG by its end marker, WEBP by its stated length.

    Raises:
        ImageError: `image_unreadable` or `image_too_large`.
    """
    with _opened(data) as image:
        found = _header_of(image)
        if found.format == "PNG":
            image.verify()
        # Pillow takes a PNG whose closing chunk is missing or cut for whole.
        cut_png = found.format == "PNG" and _PNG_END not in data
        # Inside JPEG's compressed data 0xFF is always escaped, so an end marker after the last scan is the real one.
        cut_jpeg = found.format == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
        cut_webp = found.format == "WEBP" and int.from_bytes(data[4:8], "little") + 8 > len(data)
        if cut_png or cut_jpeg or cut_webp:
            raise ImageError("image_unreadable", f"the {found.format} file is cut off")
    return found


def inspect(data: bytes) -> ImageFacts:
    """Decode an image in full and say what it is.

    Raises:
        ImageError: `image_unreadable` (no image, unknown format, damaged, cut off) or `image_too_large`
            (more than 64 million pixels, whatever the file's size).
    """
    found = header(data)
    with _opened(data) as image:
        image.load()
    return ImageFacts(hashlib.sha256(data).hexdigest(), found.width, found.height, found.mode, found.format)


def decode(data: bytes) -> Image.Image:
    """Decode an image to upright RGB pixels, transparent parts on white.

    Raises:
        ImageError: as `inspect`.
    """
    with _opened(data) as image:
        upright = _upright_rgb(image)
    if upright.mode == "RGB":
        return upright
    return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")


def for_training(data: bytes) -> tuple[bytes, str]:
    """Make an image fit for a provider, RGB(A), upright, JPEG, PNG or WEBP of at most 10 MiB, and name its MIME type.

    Bytes that are fit already pass through untouched; anything else is encoded again as PNG, and as ever smaller
    JPEG where PNG is too big.

    Raises:
        ImageError: as `inspect`.
    """
    with _opened(data) as image:
        image.load()
        if _is_fit(image, len(data)):
            return data, MIME_TYPES[str(image.format)]
        pixels = _upright_rgb(image)
    # Level 4 takes half the time of Pillow's default 6 for a tenth more bytes; no pixel differs.
    encoded = _encode(pixels, "PNG", compress_level=4)
    if len(encoded) <= MAX_TRAINING_BYTES:
        return encoded, "image/png"
    pixels = pixels.convert("RGB")
    while len(encoded := _encode(pixels, "JPEG", quality=90)) > MAX_TRAINING_BYTES:
        pixels = pixels.resize((pixels.width * 3 // 4, pixels.height * 3 // 4), Image.Resampling.LANCZOS)
    return encoded, "image/jpeg"


def data_url(data: bytes, mime: str) -> str:
    """Inline the bytes as a `data:` URL."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def contact_sheet(rows: Sequence[tuple[str | Path | UPath, str]], columns: int = 8, thumb: int = 96) -> bytes:
    """Draw small images with a caption under each as a PNG of at most 150 kB; a broken image is a crossed cell.

    Args:
        rows: Path and caption of each image, in reading order. Captions are cut to the width of a cell.
        columns: Images in a line.
        thumb: Side of an image in pixels; made smaller where the sheet would be too big.
    """
    columns = max(1, min(columns, len(rows)))
    cell = (thumb + 8, thumb + 24)
    sheet = Image.new("RGB", (columns * cell[0], max(1, math.ceil(len(rows) / columns)) * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for index, (path, caption) in enumerate(rows):
        left, top = index % columns * cell[0] + 4, index // columns * cell[1] + 4
        try:
            picture = decode(read(path))
            picture.thumbnail((thumb, thumb))
            sheet.paste(picture, (left + (thumb - picture.width) // 2, top + (thumb - picture.height) // 2))
        except ImageError:
            box = (left, top, left + thumb - 1, top + thumb - 1)
            draw.rectangle(box, outline="#bb3333")
            draw.line(box, fill="#bb3333")
        fitting = next(text for n in range(len(caption), -1, -1) if draw.textlength(text := caption[:n], font) <= thumb)
        draw.text((left, top + thumb + 2), fitting, fill="#222222", font=font)
    return _encode_below(sheet, MAX_SHEET_BYTES)


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
    except Image.UnidentifiedImageError as error:
        detail = f"{len(data)} bytes beginning {data[:8]!r} are none of {', '.join(_READABLE)}"
        raise ImageError("image_unreadable", detail) from error
    except _DECODER_ERRORS as error:
        raise ImageError("image_unreadable", f"{type(error).__name__}: {error}") from error


def _header_of(image: Image.Image) -> ImageHeader:
    return ImageHeader(image.width, image.height, image.mode, str(image.format))


def _is_fit(image: Image.Image, n_bytes: int) -> bool:
    return (
        image.format in MIME_TYPES
        and image.mode in ("RGB", "RGBA")
        and n_bytes <= MAX_TRAINING_BYTES
        and image.getexif().get(_ORIENTATION, 1) == 1
    )


def _upright_rgb(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where there is transparency, turned as EXIF says."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ImageError("image_unreadable", "its pixels are floating-point numbers; export it with 8 or 16 bits")
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
