"""Where a picture ends in its bytes: before that it is cut off, and what follows belongs to something else.

Telephones write a film behind the picture (Motion Photo), or a second picture (MPO). Its bytes may look like anything,
so the end is found from the front, block by block, and never by looking for a marker from behind.
"""

from __future__ import annotations

import re

_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
_JPEG_BEGIN = b"\xff\xd8\xff"
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
"""JPEG markers without a length: restarts and the like."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends a scan: inside it a 0xFF is always followed by a zero, or is a restart."""


def end_of(data: bytes) -> int | None:
    """Return how many bytes the picture has, None where its end is missing; all of them for other formats."""
    if data.startswith(_PNG_BEGIN):
        return _end_of_png(data)
    if data.startswith(_JPEG_BEGIN):
        return _end_of_jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        end = int.from_bytes(data[4:8], "little") + 8
        return end if end <= len(data) else None
    return len(data)


def _end_of_png(data: bytes) -> int | None:
    place = len(_PNG_BEGIN)
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"IEND":
            return end if end <= len(data) else None
        place = end
    return None


def _end_of_jpeg(data: bytes) -> int | None:
    place = 2
    while place + 1 < len(data):
        marker = data[place + 1]
        if data[place] != 0xFF or marker == 0xFF:
            place += 1  # fill bytes may stand before a marker
        elif marker == _END_OF_IMAGE:
            return place + 2
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
            if marker == _START_OF_SCAN:
                found = _MARKER.search(data, place)
                place = found.start() if found else len(data)
    return None
