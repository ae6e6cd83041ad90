"""What the first bytes of an image say, and whether its last ones are there, without a look at its pixels.

Bytes come from anywhere, so sizes are limited before anything is decoded, only well-known formats are tried, and
whatever a decoder objects to becomes an `ImageError` with a quarantine code. Loads neither numpy nor fsspec: to check a
file's headers takes less time than to load those.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image
from PIL.ImageFile import ImageFile

from finetune_assets.dataset.image_ends import end_of
from finetune_assets.dataset.impostors import N_BYTES, other_image
from finetune_assets.errors import ImageError

MAX_PIXELS = 64_000_000
_READABLE = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
# What Pillow's decoders were seen to raise on damaged bytes, beyond the OSError they document.
_DECODER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError,
                   RuntimeError, struct.error, zlib.error, MemoryError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the first bytes of an image say. Sizes in pixels; `mode` and `format` in Pillow's words."""

    width: int
    height: int
    mode: str
    format: str


def header(data: bytes) -> ImageHeader:
    """Look at an image without decoding its pixels (some 30 µs), and check that its bytes are all there.

    PNG is checked by its checksums, JPEG by its end marker, WEBP by its stated length.

    Raises:
        ImageError: `image_unreadable`, `image_truncated` or `image_too_large`.
    """
    with opened(data) as image:
        found = ImageHeader(image.width, image.height, image.mode, str(image.format))
        if found.format == "PNG":
            image.verify()
        # Pillow takes a PNG without its end for whole, and other formats until their pixels are decoded.
        if end_of(data) is None:
            raise ImageError(
                "image_truncated", f"the {found.format} file ends after {len(data):,} bytes; copy it again"
            )
    return found


@contextmanager
def opened(data: bytes) -> Iterator[ImageFile]:
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
        found = re.search(r"\((\d+) pixels\)", str(error))
        n_pixels = f"{int(found[1]):,}" if found else "far more"
        raise ImageError("image_too_large", f"its {n_pixels} pixels are more than {MAX_PIXELS:,}") from error
    except _DECODER_ERRORS as error:
        if end_of(data) is None or "truncated" in str(error).lower():
            raise ImageError("image_truncated", f"it ends after {len(data):,} bytes; copy it again") from error
        if isinstance(error, Image.UnidentifiedImageError):
            formats = ", ".join(_READABLE)
            detail = f"{len(data)} bytes beginning {data[:8]!r} are none of {formats}" if data else "the file is empty"
            other = other_image(data[:N_BYTES])
            raise ImageError("image_unreadable", f"it {other}" if other else detail) from error
        raise ImageError("image_unreadable", f"{type(error).__name__}: {error}") from error
