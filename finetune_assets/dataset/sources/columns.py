"""From a table's rows to examples, as a task's `{column}` texts say: what `table` and `huggingface` have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from finetune_assets.dataset.belonging.named import Named, published
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.identity import group_name, region_name
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sources.origin import Origin, key
from finetune_assets.dataset.sources.pictures import named_folders, picture, written_name
from finetune_assets.dataset.sources.records import Cells, cell, text
from finetune_assets.errors import ImageError
from finetune_assets.task import Answer, Split, TextAnswer
from finetune_assets.task.faults import nearest
from finetune_assets.task.sources import Columns, OwnSplits, ScoredImagesSource, columns_in

_COLUMN = re.compile(r"\{([^{}]+)\}")


def needed(source: Columns) -> list[str]:
    """List the columns that the source's texts name, each once."""
    texts = (
        *(source.region, source.question, source.answer, source.support),
        *(source.group, source.image, source.subgroup, own_split(source)),
    )
    return list(dict.fromkeys(column for written in texts if written for column in columns_in(written)))


def read_rows(source: Columns, rows: Iterator[tuple[Origin, Cells | str]], answer: Answer) -> Iterator[Example]:
    """Stream the examples of the origins' region; a row without a readable region is reported in every region."""
    images = columns_in(source.image) if source.image else ()
    columns = [column for column in needed(source) if column not in images]
    # An answer without an explanation is still an answer, and an example without a subgroup still an example.
    asked = needed(source.model_copy(update={"support": None, "subgroup": None, "group": None, "split": None}))
    belongs = Belongs(source)
    for origin, row in rows:
        if isinstance(row, str):
            yield origin.problem(Reason.MALFORMED_LINE, row)
            continue
        region = region_of(source.region, row)
        if region in ("", origin.region):
            texts = {column: text(cell(row, column)) for column in columns}
            empty = next((column for column, written in texts.items() if not written and column in asked), None)
            if empty in columns_in(source.answer) and empty.split(".", 1)[0] in row:
                yield origin.problem(Reason.EMPTY_ANSWER, f"{origin.words} has no {empty}")
            elif empty is not None:
                near = "" if "." in empty else nearest(empty, list(row))
                there = "" if empty in row else f"{near}; it has {', '.join(row)}"
                yield origin.missing(f"{empty}{there}")
            elif not region:
                found = _filled(source.region, texts)
                yield origin.problem(Reason.MISSING_FIELD, f"{origin.words}: {found!r} cannot be a region's name")
            elif lacks := belongs.lacks(row):
                yield origin.problem(Reason.MISSING_FIELD, f"{origin.words} {lacks}")
            else:
                yield _example(source, origin, row, texts, answer, belongs)
    belongs.require(getattr(source, "path", None) or getattr(source, "name", ""))


def own_split(source: object) -> str | None:
    """Return the text that says in which split a row was published, where the task names one."""
    return getattr(source, "split", None)


class Belongs:
    """What rows say of their group and of the split that they were published in."""

    def __init__(self, source: Columns | ScoredImagesSource, group: str | None = None) -> None:
        self._group = source.group or group
        self._split = own_split(source)
        self._splits = source.splits if isinstance(source, OwnSplits) else None
        self._groups = Named("source.group", source.group, source.group_pattern)
        self._published = Named("source.split", self._split)

    def lacks(self, row: Cells) -> str:
        """Say what is missing for a row to be in a split with those it belongs to; "" for nothing."""
        if self._group is not None and not self.group(row):
            return f"has no {_words(self._group)}, so nobody knows which rows it belongs to"
        if self._split is not None and self.split(row) is None:
            return f"has no {_words(self._split)}, so nobody knows which split it was published in"
        return ""

    def group(self, row: Cells) -> str | None:
        """Name a row's group; None where the task names none."""
        if self._group is None:
            return None
        cells = {column: text(cell(row, column)) for column in columns_in(self._group)}
        if self._groups.by_pattern:
            return self._groups.name(_filled(self._group, cells), row)
        names = {column: group_name(found) for column, found in cells.items()}
        return self._groups.name(_filled(self._group, names) if all(names.values()) else "", row)

    def split(self, row: Cells) -> Split | None:
        """Return the split that a row was published in.

        Raises:
            SourceError: the task does not know the word.
        """
        if self._split is None:
            return None
        written = filled(self._split, row)
        self._published.name(written, row)
        return published(written, self._splits, "source.split")

    def require(self, path: object) -> None:
        """Refuse a source that has no group, or no published split, in any row though the task names one.

        Raises:
            SourceError: so it is.
        """
        self._groups.require(path)
        self._published.require(path)


def _words(written: str) -> str:
    return " and ".join(columns_in(written))


def row_regions(source: Columns, rows: Iterator[tuple[Origin, Cells | str]]) -> Iterator[str]:
    """Stream the region of each row that has one."""
    for _, row in rows:
        if not isinstance(row, str):
            yield region_of(source.region, row)


def _example(
    source: Columns, origin: Origin, row: Cells, texts: dict[str, str], answer: Answer, belongs: Belongs
) -> Example:
    question = _filled(source.question, texts)
    image = _image(source, row)
    name = image and written_name(image)
    fields: dict[str, Any] = {
        "id": f"{origin.region}/{key(question, name)}" if name or image is None else "",
        "question": question,
        "group": belongs.group(row),
        "published": belongs.split(row),
        "subgroup": (_filled(source.subgroup, texts) or None) if source.subgroup else None,
    }
    if source.image and image is None:
        return origin.make(problem=Reason.IMAGE_MISSING, detail=f"{origin.words} has no image", **fields)
    if image is not None:
        try:
            fields["image"] = picture(image, origin.path.parent, named_folders(source.image, source.image_root))
        except ImageError as error:
            return origin.make(problem=error.reason, detail=f"{origin.words}: {error.detail}", **fields)
    return origin.example(_answer(source, row, texts, answer), answer, **fields)


def _answer(source: Columns, row: Cells, texts: dict[str, str], answer: Answer) -> object:
    column = _only_column(source.answer)
    if source.support is None:
        # A cell by itself stays what it is: the number of a Parquet table needs no detour through text.
        return _filled(source.answer, texts) if column is None else cell(row, column)
    given = _filled(source.answer, texts)
    if not all(texts[column] for column in columns_in(source.support)):
        return given
    separator = answer.separator if isinstance(answer, TextAnswer) else ""
    return f"{given} {separator} {_filled(source.support, texts)}"


def _image(source: Columns, row: Cells) -> str | bytes | None:
    """Find the row's image: a path in the cell, or bytes that the table holds inside (a dataset's image feature)."""
    if source.image is None:
        return None
    found = cell(row, columns_in(source.image)[0])
    data = found.get("bytes") if isinstance(found, dict) else found
    if isinstance(data, bytes):
        return data
    return (text(found.get("path")) if isinstance(found, dict) else filled(source.image, row)) or None


@cache
def _only_column(written: str) -> str | None:
    """Return the column that a text consists of, or None."""
    only = _COLUMN.fullmatch(written)
    return only[1] if only else None


def filled(written: str, row: Cells) -> str:
    """Fill a text's columns from a row; "" where one of their cells is empty."""
    texts = {column: text(cell(row, column)) for column in columns_in(written)}
    return _filled(written, texts) if all(texts.values()) else ""


def region_of(written: str, row: Cells) -> str:
    """Name a row's region as a task's text says; "" where its cells are empty or cannot be a name."""
    return region_name(filled(written, row)) if columns_in(written) else written


def _filled(written: str, texts: dict[str, str]) -> str:
    column = _only_column(written)
    if column is not None:
        return texts[column]
    return _COLUMN.sub(lambda match: texts[match[1]], written).strip()
