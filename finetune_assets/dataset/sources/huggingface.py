"""Datasets of the Hugging Face hub by name, through the optional package `datasets`, or a local folder of that layout.

A local folder holds tables whose file or folder names begin with the split: `train-00000-of-00002.parquet`,
`data/test.jsonl`, `validation/part1.csv`. Code that a dataset brings along is never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.origin import Origin
from finetune_assets.dataset.sources.places import locate
from finetune_assets.dataset.sources.records import Cells, record_name, rows, table_files
from finetune_assets.errors import SourceError
from finetune_assets.task import Answer
from finetune_assets.task.sources import HuggingFaceSource


def read(source: HuggingFaceSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the rows of one region; a row without a readable region is reported in every region.

    Raises:
        SourceError: the dataset cannot be reached, has no such split, or lacks a column.
    """
    return columns.read_rows(source, _rows(source, region), answer)


def regions(source: HuggingFaceSource) -> Iterator[str]:
    """Stream the region of each row that has one."""
    return columns.row_regions(source, _rows(source, ""))


def _rows(source: HuggingFaceSource, region: str) -> Iterator[tuple[Origin, Cells | str]]:
    if source.name is not None:
        yield from _hub_rows(source, source.name, region)
    if source.path is None:
        return
    folder = locate(source.path, source.folder)
    files = [file for file in table_files(folder) if file.name not in ("dataset_info.json", "dataset_infos.json")]
    for file in _of_splits(folder, files, source.splits):
        record = record_name(file)
        for number, row in rows(file, columns.needed(source)):
            yield Origin(region, file, number, record), row


def _of_splits(folder: UPath, files: list[UPath], splits: list[str] | None) -> list[UPath]:
    if splits is None:
        return files
    chosen: list[UPath] = []
    for split in splits:
        named = re.compile(rf"(?:^|/){re.escape(split)}(?:[-_.0-9/]|$)")
        found = [file for file in files if named.search(str(file)[len(str(folder)) :])]
        if not found:
            names = ", ".join(file.name for file in files[:5])
            raise SourceError(f"{folder}: no file belongs to the split {split!r}; there are {names}")
        chosen += found
    return chosen


def _hub_rows(source: HuggingFaceSource, name: str, region: str) -> Iterator[tuple[Origin, Cells | str]]:
    for split, dataset in _loaded(source, name).items():
        origin_path = UPath(f"{name}/{split}")
        found = list(dataset.features or columns.needed(source))
        if missing := [column for column in columns.needed(source) if column not in found]:
            raise SourceError(f"{name}: lacks the columns {', '.join(missing)}; it has {', '.join(found)}")
        labels = {column: kind for column, kind in (dataset.features or {}).items() if hasattr(kind, "int2str")}
        try:
            for number, row in enumerate(dataset, 1):
                named = {column: kind.int2str(row[column]) for column, kind in labels.items() if _is_label(row[column])}
                yield Origin(region, origin_path, number, "row"), row | named
        except OSError as error:
            raise SourceError(f"{name}: reading the split {split} failed: {error}") from error


def _is_label(value: object) -> bool:
    return isinstance(value, int) and value >= 0  # the hub writes -1 for no label


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
