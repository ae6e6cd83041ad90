"""Builders of real image bytes."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image


def picture(
    image_format: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (12, 8), shade: int = 90, **save: object
) -> bytes:
    """The bytes of an image of one shade with a darker pixel in its upper left corner."""
    image = Image.new("L", size, shade)
    image.putpixel((0, 0), shade // 2)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, image_format, **save)
    return buffer.getvalue()


def put(path: Path, data: bytes) -> Path:
    """Write a file, its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
