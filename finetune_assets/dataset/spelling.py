"""Local files by the names that people write for them: as Windows, macOS, a browser or a spreadsheet spells them."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

_DRIVE = re.compile(r"(?:^|/)([A-Za-z]):[\\/]")
_MOST_NAMES = 200_000
"""Names of a folder that are looked through; in larger ones only what is spelled exactly is found."""
_MOST_COMPARED = 2_000
"""Names of a folder among which the most similar is looked for."""


def _exists(path: str | Path) -> bool:
    """Return whether there is such a file; no name is too long to be asked for."""
    try:
        os.stat(path)  # noqa: PTH116 (asked for every row of a table, and five times as fast)
    except (OSError, ValueError):
        return False
    return True


def as_on_disk(folder: Path, written: str) -> str:
    """Return the path of the file that is meant, relative to the folder or absolute.

    The file of just that name comes first. Else backslashes are folders, blanks around names are none, `%20` is a
    blank, and letters with marks are the same composed or not. A difference of case is none of these, and where two
    files fit, neither is taken: the path is then as it is written.
    """
    exact = str(folder / written)
    if _exists(exact):
        return exact
    places = [folder / spelling for spelling in dict.fromkeys(_spellings(written))]
    found = next((place for place in places if _exists(place)), None)
    found = found or next((place for place in map(_by_names, places) if place is not None), None)
    return exact if found is None else str(found)


def hint(path: str) -> str:
    """Say what may be wrong with the path of a file that is not there: "; did you mean 'a.png'?", or ""."""
    if "://" in path:
        return ""
    if drive := _DRIVE.search(path):
        return f"; {drive[1]}: is a drive of Windows: write the path relative to the table, with / between folders"
    missing = Path(path)
    while not _exists(missing.parent):
        missing = missing.parent
    names = _names(missing.parent)
    near = names.get(_plain(missing.name), []) or _of_other_case(missing)
    if not near and len(names) <= _MOST_COMPARED:
        near = [
            name for plain in difflib.get_close_matches(_plain(missing.name), names, 1, 0.8) for name in names[plain]
        ]
    if near:
        return f"; did you mean {' or '.join(map(repr, near[:3]))}? Write it as the file is called"
    return "" if missing == Path(path) else f"; {str(missing.parent)!r} has no folder {missing.name!r}"


def _spellings(written: str) -> Iterator[str]:
    for slashed in (written, written.replace("\\", "/")):
        for unquoted in (slashed, unquote(slashed)):
            yield unquoted
            yield "/".join(part.strip() for part in unquoted.split("/"))


def _by_names(path: Path) -> Path | None:
    """Find a file whose names and whose folders' names look the same; None where there is none, or several."""
    found = Path(path.anchor)
    for part in path.parts[1:]:
        if not _exists(found / part):
            near = _names(found).get(_plain(part), [])
            if len(near) != 1:
                return None
            part = near[0]
        found /= part
    return found


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _of_other_case(missing: Path) -> list[str]:
    return _listed(str(missing.parent), _changed(missing.parent))[1].get(_plain(missing.name).casefold(), [])


def _names(folder: Path) -> dict[str, list[str]]:
    """Return the names in a folder by how they look."""
    return _listed(str(folder), _changed(folder))[0]


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=16)
def _listed(folder: str, _: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return a folder's names by how they look, and the same in small letters; nothing where it cannot be read."""
    plain: dict[str, list[str]] = {}
    small: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_NAMES + 1)]
    except OSError:
        names = []
    for name in sorted(names) if len(names) <= _MOST_NAMES else ():
        plain.setdefault(_plain(name), []).append(name)
        small.setdefault(_plain(name).casefold(), []).append(name)
    return plain, small
