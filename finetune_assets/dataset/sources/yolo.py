"""Objects of YOLO folders as questions, as `coco` asks them: `images/…` with a text file for each in `labels/…`.

The names of the classes are in `data.yaml` (any `*.yaml` with `names`) or `classes.txt`. A row is an image: `image`,
`folders`, `split`, `category`, `n` and `answer`. An empty text file says that there is nothing; without a file nobody
said anything, and the image is set aside.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import yaml
from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading import opening
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.image_folder import below, image_files, split_of
from finetune_assets.dataset.sources.objects import Objects, category_of
from finetune_assets.dataset.sources.places import locate
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import YoloSource
from finetune_assets.task.answers import Answer


def read(source: YoloSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the images of one region.

    Raises:
        SourceError: the folder is not in this layout, or has no such category.
    """
    return columns.read_tables(source, _tables(source, answer), region, answer)


def regions(source: YoloSource) -> Iterator[str]:
    """Stream the region of each image."""
    return columns.row_regions(source, _tables(source, None))


def _tables(source: YoloSource, answer: Answer | None) -> Iterator[Table]:
    folder = locate(source.path, source.folder)
    names = class_names(folder)
    category = category_of(folder, source.category, list(names.values()), answer)
    yield Table(folder / "images", "image", partial(_rows, folder, names, category, answer))


def _rows(
    folder: UPath, names: dict[int, str], category: str | None, answer: Answer | None
) -> Iterator[tuple[int, Cells | str]]:
    for number, image in enumerate(_images(folder), 1):
        parts = below(folder, image)
        path, labels = "/".join(parts), _labels(folder, parts)
        if labels is None:
            yield number, f"{path} has no file of labels; an image without objects has an empty one"
            continue
        objects = _objects(labels, names)
        row = {"image": path, "folders": parts[:-1], "split": split_of(parts[:-1])}
        yield number, objects if isinstance(objects, str) else row | objects.row(category, answer)


def class_names(folder: UPath) -> dict[int, str]:
    """Read the names of the classes by number.

    Raises:
        SourceError: no file says them.
    """
    for file in sorted(folder.glob("*.yaml"), key=str) + sorted(folder.glob("*.yml"), key=str):
        with opening(file):
            found = _yaml(file)
        names = found.get("names") if isinstance(found, dict) else None
        if isinstance(names, list):
            return {number: str(name) for number, name in enumerate(names)}
        if isinstance(names, dict):
            return {int(number): str(name) for number, name in names.items()}
    classes = next((file for place in (folder, folder / "labels") if (file := place / "classes.txt").is_file()), None)
    if classes is None:
        raise SourceError(f"{folder}: must hold the names of the classes, in data.yaml (`names`) or classes.txt")
    return dict(enumerate(line.strip() for line in classes.read_text("utf-8").splitlines() if line.strip()))


def _yaml(file: UPath) -> Any:
    try:
        return yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: is no YAML that can be read: {error}") from error


def _images(folder: UPath) -> list[UPath]:
    """The images: those below `images`, or, where the splits stand outermost, below `<split>/images`."""
    found = [file for file in image_files(folder) if "images" in str(file)[len(str(folder)) :].split("/")]
    if not found:
        raise SourceError(f"{folder}: must hold images/ and labels/")
    return found


def _labels(folder: UPath, parts: list[str]) -> UPath | None:
    """The text file of an image: the same path with `labels` for `images`; None where there is none."""
    at = len(parts) - 1 - parts[::-1].index("images")
    stem = parts[-1].rpartition(".")[0]
    file = folder / "/".join([*parts[:at], "labels", *parts[at + 1 : -1], f"{stem}.txt"])
    return file if file.is_file() else None


def _objects(labels: UPath, names: dict[int, str]) -> Objects | str:
    """The objects of an image, or what is wrong with its file."""
    objects = Objects()
    for number, line in enumerate(labels.read_text("utf-8", errors="replace").splitlines(), 1):
        first = line.split(maxsplit=1)[0] if line.strip() else None
        if first is None:
            continue
        if not first.isdecimal() or int(first) not in names:
            numbers = f"0 to {len(names) - 1}"
            return f"{labels.name}, line {number}: must begin with a class, {numbers}, found {line.strip()[:40]!r}"
        objects.add(names[int(first)])
    return objects
