"""The encoding of a text file, decided once for all of it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from upath import UPath

from finetune_assets.dataset.json_lines import MAX_LINE_BYTES
from finetune_assets.errors import SourceError

_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_BLOCK_BYTES = 1 << 20
_MOST_WORDS = 10_000
_LETTERS = (
    "äöüßéèêàáçøñ",  # German, with the foreign words in it
    "àâæçéèêëîïôœùûü",  # French
    "áéíñóúü",  # Spanish
    "áâãàçéêíóôõúü",  # Portuguese
    "àèéìíîòóù",  # Italian
    "åäöæøéüà",  # Danish, Norwegian, Swedish, Finnish
    "äëïöüéèêóáíçà",  # Dutch
)
"""The letters of Western European languages; a file whose letters are those of one of them is Windows-1252."""
_SIGNS = "".join(
    sign
    for sign in bytes((*range(0x80, 0xC0), 0xD7, 0xF7)).decode("cp1252", "ignore")
    if not sign.isalpha() or sign in "\u00aa\u00b5\u00ba"
)
_JOINING = "\u2019\u00ad\u00b7\u00b5"
"""Signs that may stand within a word: apostrophe, soft hyphen, middle dot, micro."""
_IMPLAUSIBLE = re.compile(
    rf"[^\W\d_][{re.escape(re.sub(f'[{_JOINING}]', '', _SIGNS))}][^\W\d_]"  # a sign within a word
    r"|[^\W\d_][\u201a\u201e]|[\u00aa\u00ba\u00b9\u00b2\u00b3][^\W\d_]"  # one at the wrong end of it
    r"|[a-zà-öø-ÿœ][À-ÖØ-ÞŒ]"  # a capital after a small letter
    r"|[À-ÖØ-öø-ÿŒœ]{3}|(?<![^\W\d_])[À-ÖØ-öø-ÿŒœ]{2}(?![^\W\d_])"  # hardly anything but accents
)
"""What other encodings look like when they are read as Windows-1252."""
_HIGH = re.compile(rb"[\w.\x80-\xff]*[\x80-\xff][\w.\x80-\xff]*")
BROKEN = re.compile("[\udc80-\udcff\ufffd]")
"""What is left of bytes that are not of the encoding."""
NOT_DECODED = (
    "the line is not UTF-8, and it is not certain what it is; save the file as UTF-8, or name its encoding, such as "
    "`source.dialect: {encoding: cp1252}`"
)


def encoding_of(path: UPath, stated: str | None) -> str:
    """Return the encoding of a text file: the stated one, that of its byte order mark, UTF-8 or Windows-1252.

    It is Windows-1252 where no line with an accent is UTF-8, and all of them together hold the letters of one Western
    European language only. Where that is not certain it is UTF-8, and lines that are not have to be set aside.

    Raises:
        SourceError: the file is UTF-16 without a byte order mark, or has a line of more than `MAX_LINE_BYTES`.
    """
    if stated is not None and codecs.lookup(stated).name == "utf-8":
        stated = "utf-8-sig"
    words: set[bytes] = set()
    with path.open("rb") as file:
        start = file.read(4)
        if mark := next((name for mark, name in _MARKS if start.startswith(mark)), None):
            return stated or mark
        if stated is None and start.count(0) > 1:
            raise SourceError(
                f"{path}: looks like UTF-16; save it as UTF-8, or write `source.dialect: {{encoding: utf-16-le}}`"
            )
        file.seek(0)
        for lines in _blocks(path, file):
            if stated is None and not lines.isascii():
                if _has_utf8(lines):
                    return "utf-8-sig"
                words.update(_HIGH.findall(lines)[: _MOST_WORDS - len(words)])
    return stated or ("cp1252" if words and _is_western(words) else "utf-8-sig")


def _blocks(path: UPath, file: BinaryIO) -> Iterator[bytes]:
    """Stream a file in blocks of whole lines."""
    rest = b""
    for block in iter(partial(file.read, _BLOCK_BYTES), b""):
        head, newline, tail = block.rpartition(b"\n")
        yield rest + head + newline if newline else b""
        rest = tail if newline else rest + tail
        if len(rest) > MAX_LINE_BYTES:
            raise SourceError(f"{path}: has a line of over {MAX_LINE_BYTES // 2**20} MiB; is it a table at all?")
    yield rest


def _has_utf8(lines: bytes) -> bool:
    """Whether some line has letters beyond ASCII, and all of them are UTF-8."""
    return any(not line.isascii() and _is_utf8(line) for line in lines.split(b"\n"))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_western(words: set[bytes]) -> bool:
    try:
        text = b"\n".join(words).decode("cp1252")
    except UnicodeDecodeError:
        return False
    letters = {letter for letter in text.lower() if letter > "\x7f"} - set(_SIGNS)
    return not _IMPLAUSIBLE.search(text) and any(letters <= set(alphabet) for alphabet in _LETTERS)
