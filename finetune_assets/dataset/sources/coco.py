"""Objects of COCO files as questions: is there one of a category, how many are there, or which category is it.

A row is an image: its own keys (`file_name`, `id`, `width`, …), `category`, `n` (how many objects of it) and `answer`:
whether there is one (binary), how many (number), or the one category that the image has (choice).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.json_lines import kind
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.reading.json_records import json_value
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.objects import Objects, category_of
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import CocoSource
from finetune_assets.task.answers import Answer


def read(source: CocoSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the images of one region.

    Raises:
        SourceError: a file cannot be opened, is no COCO file, or has no such category.
    """
    return columns.read_tables(source, _tables(source, answer), region, answer)


def regions(source: CocoSource) -> Iterator[str]:
    """Stream the region of each image that has one."""
    return columns.row_regions(source, _tables(source, None))


def _tables(source: CocoSource, answer: Answer | None) -> Iterator[Table]:
    for path in locate_all(source.path, source.folder):
        names, images, found = _parts(path, json_value(path))
        category = category_of(path, source.category, list(names.values()), answer)

        def cells(image: dict[str, Any], found: Any = found, category: str | None = category) -> Cells:
            return found.get(str(image.get("id")), Objects()).row(category, answer)

        yield Table(path, "entry", partial(_rows, source, images, cells))


def _rows(
    source: CocoSource, images: list[Any], cells: Callable[[dict[str, Any]], Cells]
) -> Iterator[tuple[int, Cells | str]]:
    for number, image in enumerate(images, 1):
        name = image.get("file_name") if type(image) is dict else None
        if not isinstance(name, str):
            yield number, f"entry {number} of images must be an object with file_name, found {kind(image)}"
        else:
            yield number, {**image, "image": f"{source.images}/{name}" if source.images else name} | cells(image)


def _parts(path: UPath, found: Any) -> tuple[dict[str, str], list[Any], dict[str, Objects]]:
    """The names of the categories by id, the images, and the objects of each image by its id."""
    parts: dict[str, list[Any]] = {}
    for name in ("images", "annotations", "categories"):
        part = found.get(name) if type(found) is dict else None
        if type(part) is not list:
            wanted = "an object with the lists images, annotations and categories"
            raise SourceError(f"{path}: must be {wanted}; {name} is {kind(part)}")
        parts[name] = part
    names = {str(entry.get("id")): str(entry.get("name")) for entry in parts["categories"] if type(entry) is dict}
    ids = Counter(str(image.get("id")) for image in parts["images"] if type(image) is dict)
    if (twice := ids.most_common(1)) and twice[0][1] > 1:
        raise SourceError(f"{path}: {twice[0][1]} images have the id {twice[0][0]}; give each its own")
    objects: dict[str, Objects] = {}
    for number, annotation in enumerate(parts["annotations"], 1):
        named = annotation if type(annotation) is dict else {}
        at, category = str(named.get("image_id")), str(named.get("category_id"))
        if at not in ids or category not in names:
            told = f"annotation {number} names image {at} and category {category}"
            raise SourceError(f"{path}: {told}; the file does not have both")
        objects.setdefault(at, Objects()).add(names[category], crowd=bool(named.get("iscrowd")))
    return names, parts["images"], objects
