"""Images in folders by class: the folder that holds an image is its class, and those above say what they say.

A row has the columns `image` (its path in the source's folder), `class` (its folder), `name` (of the file), `folders`
(all folders below the source's, outermost first: `{folders.0}`) and `split`, where one of them is called as published
splits are. A folder with a `metadata.csv` is a table, which `kind: table` reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.places import locate
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import ImageFolderSource
from finetune_assets.task.answers import Answer

# fmt: off
IMAGE_ENDINGS = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".dcm",
    ".jpe", ".jfif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".psd", ".svg", ".tga", ".pgm", ".ppm",
)
# fmt: on
"""The later ones are hardly ever read, but nobody should have to find out that they were passed over."""
SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "calibration"})
"""Folders that are published splits and no classes."""


def read(source: ImageFolderSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the images of one region.

    Raises:
        SourceError: there is no such folder, or no image in a folder below it.
    """
    return columns.read_tables(source, _tables(source), region, answer)


def regions(source: ImageFolderSource) -> Iterator[str]:
    """Stream the region of each image."""
    return columns.row_regions(source, _tables(source))


def image_files(folder: UPath) -> list[UPath]:
    """List the images anywhere below a folder by path; hidden files and folders are none.

    Raises:
        SourceError: it is no folder.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: must be the folder that holds the images")
    found = (file for file in _everything_below(folder) if file.suffix.lower() in IMAGE_ENDINGS)
    shown = (file for file in found if not any(part.startswith(".") for part in below(folder, file)))
    # A link that leads nowhere is an image that is missing.
    return sorted((file for file in shown if file.is_file() or file.is_symlink()), key=str)


def _everything_below(folder: UPath) -> Iterator[UPath]:
    """Yield what lies below a folder, through links to folders too: an image that they lead out to is then told."""
    if not isinstance(folder, Path):
        yield from folder.rglob("*")
        return
    for here, folders, files in os.walk(folder, followlinks=True):
        above = os.path.realpath(here) + os.sep
        links_up = {name for name in folders if above.startswith(os.path.realpath(f"{here}/{name}") + os.sep)}
        folders[:] = [name for name in folders if name not in links_up]
        yield from (UPath(here) / name for name in files)


def split_of(folders: list[str]) -> str:
    """Return the outermost folder that is called as a published split, in lower case; "" where none is."""
    return next((name.lower() for name in folders if name.lower() in SPLIT_FOLDERS), "")


def _tables(source: ImageFolderSource) -> Iterator[Table]:
    folder = locate(source.path, source.folder)
    files = image_files(folder)
    if not files:
        endings = ", ".join(IMAGE_ENDINGS)
        raise SourceError(f"{folder}: holds no image; each must lie in the folder of its class and end in {endings}")
    # A path of its own, so that what is relative to the table's folder is relative to this one.
    yield Table(folder / "images", "image", partial(_rows, folder, files))


def _rows(folder: UPath, files: list[UPath]) -> Iterator[tuple[int, Cells | str]]:
    for number, file in enumerate(files, 1):
        *folders, name = below(folder, file)
        classes = [found for found in folders if found.lower() not in SPLIT_FOLDERS]
        path = "/".join([*folders, name])
        if not classes:
            yield number, f"{path} lies in no folder of a class"
        else:
            row = {"image": path, "name": name, "class": classes[-1], "folders": folders}
            yield number, row | {"split": split_of(folders)}


def below(folder: UPath, file: UPath) -> list[str]:
    """The folders and the name of a file, below a folder."""
    return str(file)[len(str(folder)) :].replace("\\", "/").strip("/").split("/")
