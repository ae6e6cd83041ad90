"""From a table's rows to examples, as a task's `{column}` texts say: what `table` and `huggingface` have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.identity import region_name
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sources.kept_files import keep_image
from finetune_assets.dataset.sources.origin import Origin, key
from finetune_assets.dataset.sources.places import ON_THE_WEB, beside, is_on_the_web
from finetune_assets.dataset.sources.records import Cells, cell, text
from finetune_assets.task import Answer, TextAnswer
from finetune_assets.task.sources import Columns, columns_in

_COLUMN = re.compile(r"\{([^{}]+)\}")


def needed(source: Columns) -> list[str]:
    """List the columns that the source's texts name, each once."""
    texts = (source.region, source.question, source.answer, source.support, source.group, source.image, source.subgroup)
    return list(dict.fromkeys(column for written in texts if written for column in columns_in(written)))


def read_rows(source: Columns, rows: Iterator[tuple[Origin, Cells | str]], answer: Answer) -> Iterator[Example]:
    """Stream the examples of the origins' region; a row without a readable region is reported in every region."""
    images = columns_in(source.image) if source.image else ()
    columns = [column for column in needed(source) if column not in images]
    # An answer without an explanation is still an answer, and an example without a subgroup still an example.
    asked = needed(source.model_copy(update={"support": None, "subgroup": None}))
    for origin, row in rows:
        if isinstance(row, str):
            yield origin.problem(Reason.MALFORMED_LINE, row)
            continue
        region = region_of(source.region, row)
        if region in ("", origin.region):
            texts = {column: text(cell(row, column)) for column in columns}
            empty = next((column for column, written in texts.items() if not written and column in asked), None)
            if empty in columns_in(source.answer):
                yield origin.problem(Reason.EMPTY_ANSWER, f"{origin.words} has no {empty}")
            elif empty is not None:
                there = "" if empty in row else f"; it has {', '.join(row)}"
                yield origin.missing(f"{empty}{there}")
            elif not region:
                found = _filled(source.region, texts)
                yield origin.problem(Reason.MISSING_FIELD, f"{origin.words}: {found!r} cannot be a region's name")
            else:
                yield _example(source, origin, row, texts, answer)


def row_regions(source: Columns, rows: Iterator[tuple[Origin, Cells | str]]) -> Iterator[str]:
    """Stream the region of each row that has one."""
    for _, row in rows:
        if not isinstance(row, str):
            yield region_of(source.region, row)


def _example(source: Columns, origin: Origin, row: Cells, texts: dict[str, str], answer: Answer) -> Example:
    question = _filled(source.question, texts)
    image = _image(source, origin, row)
    fields = {
        "id": f"{origin.region}/{key(question, image)}",
        "question": question,
        "image": image,
        "group": _filled(source.group, texts) if source.group else None,
        "subgroup": (_filled(source.subgroup, texts) or None) if source.subgroup else None,
    }
    if source.image and image is None:
        return origin.make(problem=Reason.IMAGE_MISSING, detail=f"{origin.words} has no image", **fields)
    if image is not None and is_on_the_web(image):
        return origin.make(problem=Reason.IMAGE_MISSING, detail=f"{image!r} {ON_THE_WEB}", **fields)
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


def _image(source: Columns, origin: Origin, row: Cells) -> str | None:
    """Find the row's image: a path in the cell, or bytes that the table holds inside (a dataset's image feature)."""
    if source.image is None:
        return None
    columns = columns_in(source.image)
    found = cell(row, columns[0])
    if isinstance(found, dict):
        data, path = found.get("bytes"), text(found.get("path"))
        return keep_image(data) if isinstance(data, bytes) else beside(origin.path.parent, path) if path else None
    if isinstance(found, bytes):
        return keep_image(found)
    path = filled(source.image, row)
    return beside(origin.path.parent, path) if path else None


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
