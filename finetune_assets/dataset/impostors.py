"""Files that are something else than their names say: what a download or a version control left in their place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from finetune_assets.errors import SourceError

if TYPE_CHECKING:
    from upath import UPath

N_BYTES = 1024
"""Of a file's beginning, which are enough to know it by."""
_LEFT_INSTEAD = (
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "is a pointer of Git LFS and not the file itself; run `git lfs pull` in its repository",
    ),
    (
        rb"(?:\.\./)*(?:\.git/annex|/annex)/objects/",
        "is a pointer of git-annex and not the file itself; run `git annex get` in its repository",
    ),
    (
        rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head)\b",
        "is a web page (HTML), such as one that asks to sign in; download the file itself",
    ),
    (
        rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<Error>\s*<Code>",
        "is the error message of a store (XML), such as of an address that is no longer valid; download the file again",
    ),
)
"""How each begins, and what to do about it."""
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
_FORMATS = (
    (b"PAR1", "a Parquet file", (".parquet",), "call it .parquet"),
    (b"PK\x03\x04", "a ZIP archive or a workbook", _WORKBOOKS, "call a workbook .xlsx, unpack others"),
    (b"\xd0\xcf\x11\xe0", "a workbook of old Excel", _WORKBOOKS, "call it .xls"),
    (b"\x1f\x8b", "compressed by gzip", (), "unpack it"),
    (b"SQLite format 3", "a SQLite database", (), "read it by `kind: sql`"),
    (b"%PDF", "a PDF document", (), "export the table as CSV"),
)
"""How each begins, what it is, the names it has, and what to do where it has another."""


def stands_instead(start: bytes) -> str | None:
    """Say what a file is by its first bytes, and what to do, where it cannot be data; None where it may be."""
    found = (words for begins, words in _LEFT_INSTEAD if re.match(begins, start, re.IGNORECASE | re.DOTALL))
    return next(found, None)


def require_data(path: UPath) -> None:
    """Refuse a file of data that is none, or of another format than its name says.

    Raises:
        SourceError: so it is; the message says what it is and what to do.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(N_BYTES)
    ending = path.suffix.lower()
    words = stands_instead(start) or next(
        (
            f"is {what}; {advice}"
            for magic, what, endings, advice in _FORMATS
            if start.startswith(magic) and ending not in endings
        ),
        None,
    )
    if words is None and ending in _WORKBOOKS and start.strip() and not re.search(rb"[\0-\x08]", start):
        words = "is a text, such as CSV, and no workbook; call it .csv"
    if words:
        raise SourceError(f"{path}: {words}")
