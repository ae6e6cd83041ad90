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
_OTHER_IMAGES = (
    (rb".{4}ftyp(?:avif|avis)", "is an AVIF image; save it as PNG or JPEG"),
    (rb".{4}ftyp(?:heic|heix|heim|heis|hevc|mif1|msf1)", "is a HEIC image, as telephones take them; save it as JPEG"),
    (rb".{4}ftyp", "is a film; export the frame that is meant as PNG or JPEG"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "is a JPEG 2000 image; save it as PNG"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "is a JPEG XL image; save it as PNG or JPEG"),
    (rb"P[1-7]\s", "is a Netpbm image (PGM, PPM); save it as PNG, with 16 bits a value where it has more than 8"),
    (rb".{128}DICM", "is a DICOM file; read it by `kind: dicom`"),
    (rb".{344}n[+i]1\0|\x1f\x8b", "is compressed, or a NIfTI volume; export the slices that are meant as PNG"),
    (rb"\x93NUMPY", "is an array of NumPy; save it as PNG or TIFF"),
    (rb"SIMPLE  =", "is a FITS file; export the image as TIFF"),
    (rb"8BPS", "is a Photoshop document; export it as PNG or JPEG"),
    (rb"\s*(?:<\?xml.*?)?<svg\b", "is a drawing (SVG); export it as PNG"),
    (rb"%PDF|%!PS", "is a document; export the page that is meant as PNG"),
    (rb"PK\x03\x04", "is an archive (ZIP); unpack it"),
    (
        rb"II[*+]\0|MM\0[*+]",
        "is a TIFF file of a kind that is not read, such as one of 64-bit numbers; save it with 8, 16 or 32 bits",
    ),
)
"""How each begins, and what to do about it; the more general one after the special ones."""
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


def other_image(start: bytes) -> str | None:
    """Say what a file is by its first bytes, and what to do, where it is no image that can be read; None if unknown."""
    found = (words for begins, words in _OTHER_IMAGES if re.match(begins, start, re.DOTALL))
    return stands_instead(start) or next(found, None)


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
