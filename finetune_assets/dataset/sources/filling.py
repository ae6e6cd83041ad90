"""A task's texts of `{column}`s, filled from a row."""

from __future__ import annotations

import re
from collections.abc import Container
from functools import cache

from finetune_assets.dataset.identity import region_matched, region_name
from finetune_assets.dataset.reading.cells import Cells, cell, text
from finetune_assets.task.sources import Columns, ScoredImagesSource, columns_in

_COLUMN = re.compile(r"\{([^{}]+)\}")


@cache
def only_column(written: str) -> str | None:
    """Return the column that a text consists of, or None."""
    only = _COLUMN.fullmatch(written)
    return only[1] if only else None


def filled(written: str, row: Cells, empty: Container[str]) -> str:
    """Fill a text's columns from a row; "" where one of their cells is empty."""
    if (column := only_column(written)) is not None:
        return text(cell(row, column), empty)
    texts = {column: text(cell(row, column), empty) for column in columns_in(written)}
    return filled_with(written, texts) if all(texts.values()) else ""


def filled_with(written: str, texts: dict[str, str]) -> str:
    """Fill a text's columns with the texts of their cells."""
    column = only_column(written)
    if column is not None:
        return texts[column]
    return _COLUMN.sub(lambda match: texts[match[1]], written).strip()


def region_of(source: Columns | ScoredImagesSource, row: Cells) -> str:
    """Name a row's region as the task says; "" where its cells are empty, match no pattern or cannot be a name."""
    if not columns_in(source.region):
        return source.region
    found = filled(source.region, row, source.dialect.empties)
    return region_name(found) if source.region_pattern is None else region_matched(source.region_pattern, found)


def words_of(written: str) -> str:
    """Name a text's columns in a message."""
    return " and ".join(columns_in(written))
