"""Any table, or a folder of them, one example a row; the task's YAML says what each part is made of."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading import table_files
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.dataset.sources.tables import Table, as_published, tables_of
from finetune_assets.task.answers import Answer
from finetune_assets.task.sources import TableSource


def read(source: TableSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the rows of one region; a row without a readable region is reported in every region.

    Raises:
        SourceError: a table cannot be opened, is of another format, or lacks a column.
    """
    return columns.read_tables(source, _tables(source), region, answer)


def regions(source: TableSource) -> Iterator[str]:
    """Stream the region of each row that has one."""
    return columns.row_regions(source, _tables(source))


def _tables(source: TableSource) -> Iterator[Table]:
    paths = (file for place in locate_all(source.path, source.folder) for file in table_files(place))
    return as_published(tables_of(paths, source.dialect, columns.needed(source)), source)
