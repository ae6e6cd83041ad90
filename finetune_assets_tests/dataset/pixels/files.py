"""Image files of kinds that Pillow cannot write, put together by hand."""

from __future__ import annotations

import struct
import zlib
from typing import Literal

import numpy as np

_SIZES = {2: 1, 3: 2, 4: 4}


def tiff(values: np.ndarray, order: Literal["<", ">"] = "<", *, deflate: bool = False, **tags: int) -> bytes:
    """A TIFF of one strip in a byte order, its tags replaced by number: `t262=0` is white where the values are low."""
    height, width, *rest = values.shape
    channels = rest[0] if rest else 1
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    pixels = zlib.compress(pixels) if deflate else pixels
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    found: dict[int, int | list[int]] = {
        256: width,
        257: height,
        258: [values.dtype.itemsize * 8] * channels,
        259: 8 if deflate else 1,
        262: 2 if channels > 1 else 1,
        273: 8,
        277: channels,
        278: height,
        279: len(pixels),
        339: [kind] * channels,
    }
    found |= {int(name[1:]): value for name, value in tags.items()}
    if channels == 4:
        found[338] = 2
    place, entries, extra = 8 + len(pixels) + len(pixels) % 2, b"", b""
    beyond = place + 2 + 12 * len(found) + 4
    for tag, value in sorted(found.items()):
        shorts = value if isinstance(value, list) else None
        if shorts is not None and len(shorts) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(shorts), beyond + len(extra))
            extra += struct.pack(f"{order}{len(shorts)}H", *shorts)
        elif shorts is not None:
            packed = struct.pack(f"{order}{len(shorts)}H", *shorts).ljust(4, b"\0")
            entries += struct.pack(f"{order}HHI", tag, 3, len(shorts)) + packed
        else:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place)
    count = struct.pack(f"{order}H", len(found))
    return start + pixels.ljust(place - 8, b"\0") + count + entries + b"\0" * 4 + extra


def png(values: np.ndarray, *, significant: int = 0, transparent: int | None = None) -> bytes:
    """A PNG of 16 bits, `[h, w]` or with 2 to 4 channels, with the chunks sBIT and tRNS where they are asked for."""
    height, width, *rest = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[rest[0] if rest else 1]
    lines = values.astype(">u2").reshape(height, -1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    chunks += [(b"sBIT", bytes([significant]))] if significant else []
    chunks += [(b"tRNS", struct.pack(">H", transparent))] if transparent is not None else []
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))), (b"IEND", b"")]
    made = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        made += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return made
