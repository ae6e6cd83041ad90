"""Images as bytes: what they are, whether they are whole, what they look like, and how a provider wants them.

Bytes come from anywhere, so sizes are limited before anything is decoded, only well-known formats are tried, and
whatever a decoder objects to becomes an `ImageError` with a quarantine code. What the pixels look like is decided in
`pixels`, for everyone the same.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pybase64
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from upath import UPath

from finetune_assets.dataset.image_ends import end_of
from finetune_assets.dataset.image_headers import header, opened
from finetune_assets.dataset.pixels import decoding
from finetune_assets.dataset.pixels.bands import bands
from finetune_assets.dataset.pixels.window import Scale, Window
from finetune_assets.dataset.spelling import hint
from finetune_assets.errors import ImageError

MAX_TRAINING_BYTES = 10 * 1024 * 1024
"""Largest image a provider trains on (OpenAI's vision fine-tuning guide)."""
MAX_FILE_BYTES = 128 * 1024 * 1024
MIN_SIDE = 2
LOW_CONTRAST = 16
"""Of 255: an image with less is nearly of one grey."""
THUMBNAIL_SIDE = 32
DETAIL_SIZES = {"low": (512, 512), "high": (2048, 768), "auto": (2048, 768)}
"""Longest and shortest side in pixels of what a provider looks at, by the detail asked for."""
MIME_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_OF_BROWSERS = ("1", "LA", "P", "PA")
"""Modes that browsers show as everyone else does, without a colour profile."""
_ORIENTATION = 0x0112
_PRIVATE = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif", "photoshop", "comment"}
"""What Pillow finds beside the pixels that may tell of people and places; text chunks of PNG are looked at too."""


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
    contrast: int
    """About how far of 255 its darkest and its lightest part lie apart; exact below 16."""
    scale: Scale | None = None
    """Of an image of more than 8 bits: which stored values are its black and white."""
    in_eight_bits: bytes | None = None
    """Of such an image: the same as a PNG that everyone sees alike and providers take."""


def read(path: str | Path | UPath) -> bytes:
    """Read the bytes of an image file.

    Raises:
        ImageError: `image_missing` if there is no such file, `image_unreadable` if it cannot be opened,
            `image_too_large` above 128 MiB.
    """
    return read_dated(path)[0]


def _opened_at_once(path: str, flags: int) -> int:
    # A pipe would keep whoever opens it waiting until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
            with open(str(path), "rb", buffering=0, opener=_opened_at_once) as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    raise ImageError("image_unreadable", f"{str(path)!r} is no file, but a folder, a pipe or a device")
                data, modified_ns = file.read(min(facts.st_size, MAX_FILE_BYTES) + 1), facts.st_mtime_ns
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("image_missing", f"there is no file {str(path)!r}{hint(str(path))}") from error
    except (OSError, ValueError) as error:
        raise ImageError("image_unreadable", f"{str(path)!r} cannot be read: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("image_too_large", f"{str(path)!r} has more than {MAX_FILE_BYTES // 2**20} MiB")
    return data, modified_ns


def inspect(data: bytes, window: Window | None = None) -> ImageFacts:
    """Decode an image in full and say what it is.

    Args:
        data: The bytes of the image.
        window: Which stored values of more than 8 bits are black and white; None is as `pixels.window` says.

    Raises:
        ImageError: `image_unreadable` (no image, unknown format, damaged), `image_truncated` (its end is missing),
            `image_too_large` (more than 64 million pixels, whatever the file's size), `image_too_small` (one pixel wide
            or high), `image_animated` (more than one frame), `image_wrong_mode` (colours that nobody knows in RGB),
            `image_blank` (one grey), `image_few_greys` or `image_not_finite` (values that no range shows).
    """
    found = header(data)
    if min(found.width, found.height) < MIN_SIDE:
        raise ImageError("image_too_small", f"it has {found.width} x {found.height} pixels, which show nothing")
    with opened(data) as image:
        # The second picture of an MPO, which many telephones write, is a preview of the first.
        if (n_frames := getattr(image, "n_frames", 1)) > 1 and found.format != "MPO":
            raise ImageError("image_animated", f"it has {n_frames} frames; export the one that is meant")
        plain, scale = decoding.is_plain(image), None
        if plain:
            image.load()
            pixels, fit = image, _is_fit(image, data)
        else:
            shown, fit = decoding.shown(data, image, window), False
            pixels, scale = shown.image, shown.scale
        thumbnail = _thumbnail(pixels)
    contrast = _contrast(pixels, thumbnail)
    made = None if scale is None else encoded(pixels, "PNG", compress_level=4)
    digest = hashlib.sha256(data).hexdigest()
    return ImageFacts(
        digest, found.width, found.height, found.mode, found.format, fit, thumbnail.tobytes(), contrast, scale, made
    )


def decode(data: bytes) -> Image.Image:
    """Decode an image to upright RGB pixels, transparent parts on white.

    Raises:
        ImageError: as `inspect`, except for what only a person finds odd: frames, one colour, one pixel.
    """
    with opened(data) as image:
        pixels = decoding.shown(data, image).image
    del image  # pixels that were copied, and what its decoder holds: with WEBP two more images
    return _on_white(pixels)


def for_training(data: bytes, detail: str = "low") -> tuple[bytes, str]:
    """Make an image fit for a provider, RGB(A), upright, JPEG, PNG or WEBP of at most 10 MiB, and name its MIME type.

    Bytes that are fit already pass through untouched, but for what may follow the picture in them. Others are turned as
    EXIF says, laid on white where something shows through, made no larger than what the provider looks at, and encoded
    again without metadata: JPEG as JPEG, anything else as PNG.

    Args:
        data: The bytes of the image.
        detail: "low", "high" or "auto", as the prompt asks for it.

    Raises:
        ImageError: as `decode`.
    """
    data = data[: end_of(data)]
    with opened(data) as image:
        if decoding.is_plain(image):
            image.load()
            if _is_fit(image, data):
                return data, MIME_TYPES[str(image.format)]
        image_format = image.format
        pixels = decoding.shown(data, image).image
    longest, shortest = DETAIL_SIZES[detail]
    scale = min(1.0, longest / max(pixels.size), shortest / min(pixels.size))
    if scale < 1:
        size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
        pixels = pixels.resize(size, Image.Resampling.LANCZOS)
    if pixels.mode == "RGBA" and _is_transparent(pixels):
        pixels = _on_white(pixels)
    if image_format in ("JPEG", "MPO"):
        return encoded(pixels.convert("RGB"), "JPEG", quality=95), "image/jpeg"
    # Level 4 takes half the time of Pillow's default 6 for a tenth more bytes; no pixel differs.
    return encoded(pixels, "PNG", compress_level=4), "image/png"


def for_browser(data: bytes, side: int | None = None) -> tuple[bytes, str]:
    """Make an image that every browser shows, and name its MIME type; in full, or at most `side` pixels long and high.

    In full, plain JPEG, PNG and WEBP pass through untouched; those whose depth or colours browsers show otherwise, and
    other formats, become PNG.

    Raises:
        ImageError: as `decode`.
    """
    with opened(data) as image:
        if side is None and image.format in MIME_TYPES and (decoding.is_plain(image) or image.mode in _OF_BROWSERS):
            image.load()
            return data, MIME_TYPES[image.format]
        pixels = decoding.shown(data, image).image
    if side is None:
        return encoded(pixels, "PNG", compress_level=4), "image/png"
    pixels.thumbnail((side, side))
    return encoded(_on_white(pixels), "JPEG", quality=85), "image/jpeg"


def in_window(data: bytes, window: Window) -> tuple[bytes, str]:
    """Show an image's own values from black to white, as a PNG; values outside are black or white.

    Raises:
        ImageError: as `decode`, or the window tells no values apart.
    """
    with opened(data) as image:
        return encoded(decoding.windowed(data, image, window), "PNG", compress_level=1), "image/png"


def value_range(data: bytes) -> dict[str, float]:
    """Return the smallest and largest value of an image as it is stored.

    Raises:
        ImageError: as `decode`.
    """
    with opened(data) as image:
        low, high = decoding.extremes(data, image)
        return {"low": low, "high": high}


def data_url(data: bytes, mime: str) -> str:
    """Inline the bytes as a `data:` URL."""
    return b"".join(data_url_parts(data, mime)).decode("ascii")


def data_url_parts(data: bytes, mime: str) -> tuple[bytes, bytes]:
    """Inline the bytes as a `data:` URL in ASCII: its head and its payload, which may be megabytes, uncopied."""
    return b"data:%b;base64," % mime.encode(), pybase64.b64encode(data)


def _is_fit(image: ImageFile, data: bytes) -> bool:
    """Whether a provider takes an image whose pixels are plain as it is, and nothing in it should stay at home."""
    return (
        image.format in MIME_TYPES
        and (image.mode == "RGB" or (image.mode == "RGBA" and not _is_transparent(image)))
        and len(data) <= MAX_TRAINING_BYTES
        and end_of(data) == len(data)
        and image.getexif().get(_ORIENTATION, 1) == 1
        and not _PRIVATE & image.info.keys()
        and not getattr(image, "text", None)
    )


def _is_transparent(image: Image.Image) -> bool:
    """Whether something shows through: what, is another for every reader, and we say white."""
    return image.getchannel("A").getextrema() != (255, 255)


def _thumbnail(pixels: Image.Image) -> Image.Image:
    opaque = _on_white(pixels) if pixels.mode == "RGBA" else pixels
    # Pillow copies also what it need not turn.
    turned = opaque if opaque.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(opaque)
    return turned.convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)


def _contrast(pixels: Image.Image, thumbnail: Image.Image) -> int:
    """How far the darkest and the lightest part lie apart, exactly where that is little.

    Raises:
        ImageError: `image_blank` where all pixels are of one grey.
    """
    darkest, lightest = cast("tuple[int, int]", thumbnail.getextrema())
    apart = lightest - darkest
    if apart >= LOW_CONTRAST:
        return apart
    opaque = _on_white(pixels) if pixels.mode == "RGBA" else pixels
    values = np.asarray(opaque)
    values = values.reshape(-1, values.shape[2] if values.ndim == 3 else 1)
    low, high = values.min(axis=0), values.max(axis=0)
    if (low == high).all() and len(set(low.tolist())) == 1:
        raise ImageError("image_blank", f"all its pixels are the same grey, {low[0]} of 255")
    return int((high - low).max())


def _on_white(image: Image.Image) -> Image.Image:
    """An RGB(A) image without transparency."""
    if image.mode == "RGB":
        return image
    opaque = Image.new("RGB", image.size)
    for box in bands(image):
        band = image.crop(box)
        opaque.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    return opaque


def encoded(image: Image.Image, image_format: str, **options: int) -> bytes:
    """Encode pixels."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()
