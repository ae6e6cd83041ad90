"""Drawing: many small images with captions in one, and texts on white."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from upath import UPath

from finetune_assets.dataset.images import decode, encoded, read
from finetune_assets.errors import ImageError

MAX_SHEET_BYTES = 150_000


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
    return encoded(picture, "PNG", compress_level=4)


def _encode_below(sheet: Image.Image, max_bytes: int) -> bytes:
    """Encode a PNG of at most `max_bytes`: with fewer colours first, then smaller."""
    while True:
        for colours in (128, 64, 32):
            encoded = io.BytesIO()
            sheet.quantize(colours, dither=Image.Dither.NONE).save(encoded, "PNG", optimize=True)
            if encoded.tell() <= max_bytes or max(sheet.size) < 64:
                return encoded.getvalue()
        sheet = sheet.resize((sheet.width * 3 // 4, sheet.height * 3 // 4), Image.Resampling.LANCZOS)


def in_few_colours(png: bytes, colours: int) -> bytes:
    """Store a drawing in so many colours, as a PNG: what goes into the event log again and again must be small."""
    with Image.open(io.BytesIO(png)) as drawn:
        return encoded(drawn.convert("RGB").quantize(colours), "PNG", optimize=True)
