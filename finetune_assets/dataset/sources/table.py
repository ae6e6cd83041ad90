"""Any table, or a folder of them, one example a row; the task's YAML says what each part is made of."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.origin import Origin
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.dataset.sources.records import Cells, record_name, rows, table_files
from finetune_assets.task import Answer
from finetune_assets.task.sources import TableSource


def read(source: TableSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the rows of one region; a row without a readable region is reported in every region.

    Raises:
        SourceError: a table cannot be opened, is of another format, or lacks a column.
    """
    return columns.read_rows(source, _rows(source, region), answer)


def regions(source: TableSource) -> Iterator[str]:
    """Stream the region of each row that has one."""
    return columns.row_regions(source, _rows(source, ""))


def _rows(source: TableSource, region: str) -> Iterator[tuple[Origin, Cells | str]]:
    located = locate_all(source.path, source.folder)
    for path in (file for place in located for file in table_files(place)):
        record = record_name(path)
        for number, row in rows(path, columns.needed(source)):
            yield Origin(region, path, number, record), row
