"""Where the images lie that a table names: beside it, in a folder below, or by their names without an ending."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePath

from finetune_assets.dataset.column_looks import Column
from finetune_assets.dataset.image_addresses import is_elsewhere
from finetune_assets.dataset.sources.image_folder import IMAGE_ENDINGS
from finetune_assets.dataset.spelling import as_on_disk
from finetune_assets.errors import TaskError
from finetune_assets.onboarding.columns import is_key_by_name

_NAMES = 50
"""Of a column that are looked for."""
_MANY = 0.8
"""Share of them that has to be found; single ones may be missing."""
_MAX_FILES = 200_000
_NAMES_AN_IMAGE = re.compile(
    "(image|img|picture|photo|pic|bild|foto|imagen|imagem)s?(id|ids|name|file|filename|path|url|uri|key)?"
)
"""What a column is called, in small letters alone, that can be nothing else than the name of an image."""


def placed(folder: Path, column: Column) -> str:
    """Return what a source has to say of a column of images: `file`, or `images/{file}` where they lie below.

    Args:
        folder: The table's.
        column: One that holds the addresses of images.

    Raises:
        TaskError: they lie in several folders.
    """
    names = [name for name in _names(column) if not (is_elsewhere(name) or name[:5].lower() in ("data:", "file:"))]
    if not names or any(Path(as_on_disk(folder, name)).is_file() for name in names) or set("{}") & set(column.name):
        return column.name
    found = _found_below(folder, names, without_ending=False)
    if found is None:
        _require_no_other_root(folder, names)
    return found.replace("{}", f"{{{column.name}}}") if found else column.name


def _require_no_other_root(folder: Path, names: list[str]) -> None:
    """Refuse a table whose images lie there but for the folder that their names begin with.

    Raises:
        TaskError: that is so; the message says which folder has to be called what.
    """
    roots = {PurePath(name).parts[0] for name in names}
    if len(roots) != 1 or any(len(PurePath(name).parts) < 3 for name in names):
        return
    [root] = roots
    if (found := _found_below(folder, [name.partition("/")[2] for name in names], without_ending=False)) is not None:
        there = found.removesuffix("{}").rstrip("/")
        how = f"call the folder {there!r} {root!r}" if there else f"put them into a folder {root!r}"
        raise TaskError(
            f"the images that {names[0]!r} and others name lie in {there or '.'!r}; {how}, as the table does"
        )


def uploads_folder(folder: Path, column: Column) -> str:
    """Return the folder below in which a labelling tool's uploads lie, "" for the folder itself.

    Raises:
        TaskError: none of them lies there, or they lie in several folders.
    """
    names = [name for name in _names(column) if not (is_elsewhere(name) or name[:5].lower() in ("data:", "file:"))]
    if not names:
        return ""
    bare = [PurePath(name.partition("?d=")[2] or name).name for name in names]
    if (found := _found_below(folder, bare, without_ending=False)) is None:
        raise TaskError(
            f"the images are named as the labelling tool has them ({names[0]!r}), and none of them lies below "
            f"{folder.absolute()}; copy them there: uploads are in the folder media/upload of Label Studio's data"
        )
    return found.removesuffix("{}").rstrip("/")


def without_ending(folder: Path, columns: Iterable[Column]) -> tuple[Column, str] | None:
    """Find the column whose cells are names of images but for their ending, and say it as `photos/{id}.png`.

    Raises:
        TaskError: a column is called as names of images are, and nothing lies there that it could name; or the images
            lie in several folders.
    """
    called = [column for column in columns if _NAMES_AN_IMAGE.fullmatch(_letters(column.name))]
    for column in (*called, *(column for column in columns if column not in called and _tells_apart(column))):
        names = _names(column)
        if names and not set("{}") & set(column.name) and (found := _found_below(folder, names, without_ending=True)):
            return column, found.replace("{}", f"{{{column.name}}}")
    if called and called[0].n_words <= 2 * called[0].n:
        first = next(iter(called[0].values))
        raise TaskError(
            f"column {called[0].name} seems to name images, and {folder.absolute()} holds none of such a name "
            f"({first!r}); say where they lie, as in --set image='photos/{{{called[0].name}}}.png', or --set image=none"
        )
    return None


def _tells_apart(column: Column) -> bool:
    """Whether a column may name images: many values, of one word, and where they are whole numbers it is an id."""
    many = column.has_more or 4 * column.n_distinct >= column.n
    names = many and column.n_words <= column.n
    return names and (is_key_by_name(column) or not all(value.isdigit() for value in column.values))


def _names(column: Column) -> list[str]:
    return [name.replace("\\", "/") for name in islice(column.values, _NAMES)]


def _found_below(folder: Path, names: list[str], *, without_ending: bool) -> str | None:
    """Return where images of these names lie, as `folder/{}.png`; None where most of them are nowhere.

    Raises:
        TaskError: in several folders, or with several endings.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        wanted[_composed(PurePath(name).name)].append(name)
    places: Counter[str] = Counter()
    seen: set[str] = set()
    for path in _images(folder):
        ending = path.suffix if without_ending else ""
        bare = _composed(str(path).removesuffix(ending))
        for name in wanted.get(PurePath(bare).name, ()):
            if bare.endswith(_composed(f"/{name}")):
                root = str(path.relative_to(folder).parents[len(PurePath(name).parts) - 1])
                places[f"{'' if root == '.' else f'{root}/'}{{}}{ending}"] += 1
                seen.add(name)
    if len(seen) < _MANY * len(names):
        return None
    place, most = places.most_common(1)[0]
    if most < _MANY * len(names):
        some = ", ".join(sorted(place.replace("{}", "*") for place in places)[:3])
        raise TaskError(
            f"the images that {names[0]!r} and others name lie in {len(places)} places ({some}); put them into one "
            "folder, or write the folder into the table"
        )
    return place


def _images(folder: Path) -> Iterator[Path]:
    """Stream the images below a folder; hidden folders are passed over."""

    def all_files() -> Iterator[Path]:
        for here, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(here, name) for name in files)

    return (file for file in islice(all_files(), _MAX_FILES) if file.suffix.lower() in IMAGE_ENDINGS)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _letters(name: str) -> str:
    return "".join(filter(str.isalpha, name.rpartition(".")[2].casefold()))
