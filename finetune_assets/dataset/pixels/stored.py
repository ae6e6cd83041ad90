"""Values that come without a file become one that keeps all of them, so that the rest of the pipeline shows them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import DOUBLE

from finetune_assets.dataset.pixels.window import Window

_SMALLEST, _LARGEST, _PHOTOMETRIC = 340, 341, 262
_WHITE_IS_ZERO = 0


def greys(values: np.ndarray, window: Window | None = None, *, white_is_low: bool = False) -> bytes:
    """Write greys as a TIFF of 32 bits.

    Args:
        values: Integers or floating-point numbers, `[h, w]`.
        window: The range that the file declares, if any.
        white_is_low: Whether the smallest value is white.
    """
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    tags = ImageFileDirectory_v2()
    for tag, end in zip((_SMALLEST, _LARGEST), window or (), strict=False):
        tags.tagtype[tag] = DOUBLE
        tags[tag] = end
    if white_is_low:
        tags[_PHOTOMETRIC] = _WHITE_IS_ZERO
        # Pillow reads such files with floating-point numbers alone; those of 24 bits are the same integers.
        whole = False
    # Not compressed: libtiff, which would do it, writes these two tags as 0.
    return _saved(Image.fromarray(values.astype(np.int32 if whole else np.float32)), "TIFF", tiffinfo=tags)


def colours(values: np.ndarray) -> bytes:
    """Write colours of 8 bits, `[h, w, 3]`, as a PNG."""
    return _saved(Image.fromarray(values.astype(np.uint8)), "PNG")


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
