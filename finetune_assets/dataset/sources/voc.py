"""Objects of Pascal VOC folders as questions, as `coco` asks them: `Annotations/*.xml` beside `JPEGImages/`.

A row is an image: `name`, `image`, `folder`, `width`, `height`, `split` (of the first list in `ImageSets/Main` that has
it), `category`, `n` and `answer`. Of a category whose objects are all marked difficult no answer is certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading import opening
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.objects import Objects, category_of
from finetune_assets.dataset.sources.places import locate
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import VocSource
from finetune_assets.task.answers import Answer

_SPLITS = ("train", "val", "test")
_MAX_XML_BYTES = 4 * 1024 * 1024


def read(source: VocSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the images of one region.

    Raises:
        SourceError: the folder is not in this layout, or has no such category.
    """
    return columns.read_tables(source, _tables(source, answer), region, answer)


def regions(source: VocSource) -> Iterator[str]:
    """Stream the region of each image."""
    return columns.row_regions(source, _tables(source, None))


def categories(folder: UPath) -> Counter[str]:
    """Count the objects of each category in a folder."""
    files = (folder / "Annotations").glob("*.xml")
    return Counter(name for file in files for name, _ in _objects(_root(file)))


def _tables(source: VocSource, answer: Answer | None) -> Iterator[Table]:
    folder = locate(source.path, source.folder)
    files = sorted((folder / "Annotations").glob("*.xml"), key=str)
    if not files:
        raise SourceError(f"{folder}: must hold Annotations/*.xml beside JPEGImages")
    category = category_of(folder, source.category, sorted(categories(folder)), answer)
    yield Table(folder / "Annotations", "file", partial(_rows, folder, files, category, answer))


def _rows(
    folder: UPath, files: list[UPath], category: str | None, answer: Answer | None
) -> Iterator[tuple[int, Cells | str]]:
    splits = _splits(folder)
    for number, file in enumerate(files, 1):
        root = _root(file)
        if isinstance(root, str):
            yield number, root
            continue
        written, objects = _text(root, "filename") or f"{file.stem}.jpg", Objects()
        for name, is_difficult in _objects(root):
            objects.add(name, difficult=is_difficult)
        row = {"name": file.stem, "image": f"JPEGImages/{written}", "folder": _text(root, "folder")}
        row |= {"width": _text(root, "size/width"), "height": _text(root, "size/height")}
        yield number, row | {"split": splits.get(file.stem, "")} | objects.row(category, answer)


def _root(file: UPath) -> Element | str:
    """The XML of one image, or what is wrong with it. Entities are refused: they can grow without end."""
    with opening(file):
        data = file.read_bytes()
    if len(data) > _MAX_XML_BYTES:
        return f"{file.name} has over {_MAX_XML_BYTES // 2**20} MiB"
    try:
        return fromstring(data)
    except (ParseError, DefusedXmlException, ValueError) as error:
        return f"{file.name} is no XML that can be read: {error}"


def _objects(root: Element | str) -> list[tuple[str, bool]]:
    """The category of each object, and whether it is marked difficult."""
    found = [] if isinstance(root, str) else root.findall("object")
    return [(_text(one, "name"), _text(one, "difficult") == "1") for one in found if _text(one, "name")]


def _text(root: Element, path: str) -> str:
    return (root.findtext(path) or "").strip()


def _splits(folder: UPath) -> dict[str, str]:
    """The published split of each image."""
    found: dict[str, str] = {}
    for split in _SPLITS:
        listed = folder / "ImageSets" / "Main" / f"{split}.txt"
        for line in listed.read_text("utf-8").splitlines() if listed.is_file() else ():
            found.setdefault(line.split(maxsplit=1)[0] if line.strip() else "", split)
    return found
