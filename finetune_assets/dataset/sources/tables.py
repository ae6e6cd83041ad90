"""A source's tables, each of which may be read more than once: once more for how its numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from upath import UPath

from finetune_assets.dataset.belonging.named import split_of_file
from finetune_assets.dataset.reading import record_name, rows
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.sources.origin import Origin
from finetune_assets.task import Split
from finetune_assets.task.dialect import Dialect
from finetune_assets.task.sources import ScoredImagesSource, TableSource


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a source."""

    path: UPath
    record: str
    """What its records are called: line, row or entry."""
    rows: Callable[[], Iterator[tuple[int, Cells | str]]]
    """Streams each record's number and its cells, or what is wrong with it."""
    published: Split | None = None
    """The split that it was published as."""

    def records(self, region: str) -> Iterator[tuple[Origin, Cells | str]]:
        """Stream the records, each with where it was read."""
        for number, row in self.rows():
            yield Origin(region, self.path, number, self.record, self.published), row


def tables_of(
    paths: Iterable[UPath], dialect: Dialect, needed: Collection[str], optional: Collection[str] = ()
) -> Iterator[Table]:
    """Yield a table for each path, of which the columns are read."""
    for path in paths:
        yield Table(path, record_name(path), partial(rows, path, needed, optional, dialect))


def as_published(tables: Iterable[Table], source: TableSource | ScoredImagesSource) -> Iterator[Table]:
    """Yield the tables with the splits that their files' names say, where the task has a pattern for that.

    Raises:
        SourceError: as `split_of_file`.
    """
    for table in tables:
        split = split_of_file(table.path, source.split_from_path, source.splits)
        yield replace(table, published=split) if split else table
