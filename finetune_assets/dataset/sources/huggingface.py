"""Datasets of the Hugging Face hub by name, through the optional package `datasets`, or a local folder of that layout.

A local folder holds tables whose file or folder names begin with the split: `train-00000-of-00002.parquet`,
`data/test.jsonl`, `validation/part1.csv`. The splits are used as published, unless the task lists those that it takes
together. Code that a dataset brings along is never run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from upath import UPath

from finetune_assets.dataset.belonging.named import split_called, split_in
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading import table_files
from finetune_assets.dataset.reading.cells import Cells, label_name
from finetune_assets.dataset.reading.header import require
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.places import locate
from finetune_assets.dataset.sources.tables import Table, tables_of
from finetune_assets.errors import SourceError
from finetune_assets.task import Split
from finetune_assets.task.answers import Answer
from finetune_assets.task.sources import HuggingFaceSource


def read(source: HuggingFaceSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the rows of one region; a row without a readable region is reported in every region.

    Raises:
        SourceError: the dataset cannot be reached, has no such split, or lacks a column.
    """
    return columns.read_tables(source, _tables(source), region, answer)


def regions(source: HuggingFaceSource) -> Iterator[str]:
    """Stream the region of each row that has one."""
    return columns.row_regions(source, _tables(source))


def _tables(source: HuggingFaceSource) -> Iterator[Table]:
    if source.name is not None:
        yield from _hub_tables(source, source.name)
    if source.path is None:
        return
    folder = locate(source.path, source.folder)
    files = [file for file in table_files(folder) if file.name not in ("dataset_info.json", "dataset_infos.json")]
    for file, published in _of_splits(folder, files, source.splits):
        for table in tables_of([file], source.dialect, columns.needed(source)):
            yield replace(table, published=published)


def _of_splits(
    folder: UPath, files: list[UPath], splits: list[str] | dict[str, Split] | None
) -> list[tuple[UPath, Split | None]]:
    """List the files of the wanted splits, each with what it was published as; None where all is cut anew."""
    if splits is None:
        names: list[Split | None] = [_published_as(str(file)[len(str(folder)) :]) for file in files]
        if None in names or len(set(names)) < 2:
            names = [None] * len(files)
        return list(zip(files, names, strict=True))
    chosen: list[tuple[UPath, Split | None]] = []
    for split in splits:
        named = re.compile(rf"(?:^|/){re.escape(split)}(?:[-_.0-9/]|$)")
        of_it = [file for file in files if named.search(str(file)[len(str(folder)) :])]
        if not of_it:
            there = ", ".join(file.name for file in files[:5])
            raise SourceError(f"{folder}: no file belongs to the split {split!r}; there are {there}")
        for file in of_it:
            chosen.append((file, splits[split] if isinstance(splits, dict) else None))
    return chosen


def _published_as(path: str) -> Split | None:
    """Return the split that a file's path, from the dataset's folder on, names first."""
    return next((split for part in path.split("/") if (split := split_in(part))), None)


def _hub_tables(source: HuggingFaceSource, name: str) -> Iterator[Table]:
    loaded = _loaded(source, name)
    as_published = _as_published(source, loaded)
    for split, dataset in loaded.items():
        require(UPath(name), columns.needed(source), list(dataset.features or columns.needed(source)))
        rows = partial(_hub_rows, dataset, name, split)
        yield Table(UPath(f"{name}/{split}"), "row", rows, as_published.get(split))


def _hub_rows(dataset: Any, name: str, split: str) -> Iterator[tuple[int, Cells | str]]:
    labels = {column: kind.names for column, kind in (dataset.features or {}).items() if hasattr(kind, "int2str")}
    try:
        for number, row in enumerate(dataset, 1):
            yield number, row | {column: label_name(names, row[column]) for column, names in labels.items()}
    except OSError as error:
        raise SourceError(f"{name}: reading the split {split} failed: {error}") from error


def _as_published(source: HuggingFaceSource, names: Collection[str]) -> dict[str, Split]:
    """Return what each of the hub's splits is used as; nothing where all is cut anew."""
    if isinstance(source.splits, dict):
        return source.splits
    known: dict[str, Split] = {name: split for name in names if (split := split_called(name))}
    several = len(set(known.values())) > 1 and len(known) == len(names)
    return known if source.splits is None and several else {}


def _loaded(source: HuggingFaceSource, name: str) -> dict[str, Any]:
    """Open the wanted splits as streams, images as their bytes."""
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise SourceError("the package datasets is not installed; run: pip install 'finetune_assets[hub]'") from error
    try:
        found: dict[str, Any] = {
            str(split): rows for split, rows in datasets.load_dataset(name, source.config, streaming=True).items()
        }
    except (OSError, ValueError, DatasetsError) as error:
        advice = "check name, config and network, or give a local folder as `path`"
        raise SourceError(f"{name}: cannot be loaded from the Hugging Face hub: {error}; {advice}") from error
    wanted = source.splits or list(found)
    if unknown := [split for split in wanted if split not in found]:
        raise SourceError(f"{name}: has no split {', '.join(unknown)}; it has {', '.join(found)}")
    return {split: _undecoded(found[split], datasets.Image) for split in wanted}


def _undecoded(dataset: Any, image: Any) -> Any:
    for name, kind in (dataset.features or {}).items():
        if isinstance(kind, image):
            dataset = dataset.cast_column(name, image(decode=False))
    return dataset
