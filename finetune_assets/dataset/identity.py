"""What makes a region, a group and an example the same tomorrow, elsewhere, and in another spelling.

Names are compared in one form: Unicode NFKC, casefolded, white space as one space. So `R2A` and `r2a`, a composed and a
decomposed umlaut, and full-width letters are one name. Whatever else differs is another name, in any script.
"""

from __future__ import annotations

import hashlib
import math
import posixpath
import re
import unicodedata
from functools import lru_cache

import orjson

from finetune_assets.task.sources import MAX_NAME, is_name

MISSING = frozenset(
    ("", "nan", "nat", "none", "null", "nil", "n/a", "na", "<na>", "#n/a", "n.a.", "-", "--", "?", "unknown")
)
"""How tables say that there is nothing, in the one form of names."""
_MAX_NAME_BYTES = 120
"""Of a region's name in UTF-8: with its endings it has to be a file's name, which has 255."""
_NAMES_KEPT = 16_384
"""More than a source may have regions: records come in any order, and each names one."""
_INTEGER = re.compile(r"0*([0-9]+?)(?:\.0*)?")
_BEFORE_A_NUMBER = re.compile(r"(?<=[^\W\d_])[\s_.\-\u2010-\u2015\u2212]*0*(?=\d)")
_EXPONENT = re.compile(r"[0-9]+(?:\.[0-9]+)?e\+?[0-9]{1,3}")


def folded(text: str) -> str:
    """Return a name in the one form in which names are compared."""
    once = " ".join(unicodedata.normalize("NFKC", text).split()).casefold()
    # Folding may leave what is not in normal form: U+0345 does.
    return unicodedata.normalize("NFKC", once)


def is_missing(text: str) -> bool:
    """Return whether a cell says that there is nothing, as `nan` and `N/A` do."""
    return folded(text) in MISSING


def group_name(value: object) -> str:
    """Return the one name of a group: `12`, `12.0`, ` 012 ` and `1.2e1` are one patient, `P1` and `p-01` another.

    Two patients taken for one leak nothing, one taken for two does: so leading zeros do not count either, nor what
    parts letters from the number after them. Empty where the value says that there is none.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return _group_name(str(value))


@lru_cache(_NAMES_KEPT)
def _group_name(text: str) -> str:
    name = folded(text)
    if name in MISSING:
        return ""
    if _EXPONENT.fullmatch(name) and float(name).is_integer():
        name = str(int(float(name)))
    integer = _INTEGER.fullmatch(name)
    return integer[1] if integer else _BEFORE_A_NUMBER.sub("", name)


def region_name(text: object) -> str:
    """`R2A` becomes `r2a`, `Left lung` becomes `left-lung`, `Грудь` becomes `грудь`: the name of a region in a task.

    Letters, marks and digits of any script stay, as do `_`, `.` and `-`. A space becomes a hyphen. So does any other
    character, but then six hexadecimal digits of a hash follow, so that `C++` and `C#` are two regions; the same
    happens to names that are too long. Empty where there is no name: nothing, `nan`, `N/A`, or signs alone.
    """
    return "" if text is None else _region_name(str(text))


@lru_cache(_NAMES_KEPT)
def _region_name(text: str) -> str:
    spelled = folded(text)
    if spelled in MISSING:
        return ""
    kept = "".join(char if is_part_of_a_name(char) else "-" for char in spelled.replace(" ", "-"))
    name = re.sub(r"-{2,}", "-", re.sub(r"\.{2,}", ".", kept))
    # A mark belongs to the letter before it, and a name begins with a letter or digit.
    while name and not name[0].isalnum():
        name = name[1:]
    name = name.rstrip("-_.")
    if not name:
        return ""
    if name == spelled.replace(" ", "-") and len(name) <= MAX_NAME and len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    digest = hashlib.blake2b(spelled.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    name = name[: MAX_NAME - 7].encode()[: _MAX_NAME_BYTES - 7].decode("utf-8", "ignore")
    return f"{name.rstrip('-_.')}-{digest}"


def region_matched(pattern: str, text: str) -> str:
    """Name the region by the first group of the pattern that takes part in its first match; "" without a match."""
    match = re.search(pattern, text)
    return region_name(matched(match)) if match else ""


def matched(match: re.Match[str]) -> str:
    """Return the first group that took part in a match; "" where none did."""
    return next((group for group in match.groups() if group is not None), "")


def is_part_of_a_name(char: str) -> bool:
    """Return whether a region's name may hold a character."""
    return is_name(f"a{char}a")


def ascii_name(region: str) -> str:
    """Return a region's name in the letters that models' names have everywhere; another one for another region."""
    plain = unicodedata.normalize("NFKD", region)
    plain = re.sub(r"[^a-z0-9_.-]+", "", plain)
    if plain == region:
        return region
    digest = hashlib.blake2b(region.encode(), digest_size=3).hexdigest()
    return f"{plain}-{digest}" if plain else digest


def file_name(written: str) -> str:
    """Return the path of a file as a table names it, the same on every machine and in every spelling.

    Empty where it is absolute: then it says where the file lies, not which one it is. A URL is taken as it is.
    """
    if "://" in written or written.startswith("data:"):
        return written
    if written.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:[\\/]", written):
        return ""
    return posixpath.normpath(unicodedata.normalize("NFC", written.replace("\\", "/")))


def content(question: str | None, system: str | None, image_sha256: str | None) -> str:
    """Name what is seen of an example, 64 hexadecimal digits: the same for the same texts and image bytes."""
    return hashlib.sha256(orjson.dumps([question, system, image_sha256])).hexdigest()


def example_id(region: str, question: str, system: str | None, image_sha256: str) -> str:
    """Return the id of an example with an image: the same wherever its files lie and whatever they are called."""
    return f"{region}/{content(question, system, image_sha256)[:16]}"
