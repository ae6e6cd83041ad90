"""Scored images: a CSV, JSONL or Parquet table with the columns `image_url`, `score` (0 to 1) and `region`.

A column `group` is honoured where there is one: rows that share it (one patient, one panel) stay in one split.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sources.region_names import region_name
from finetune_assets.errors import SourceError
from finetune_assets.task import BinaryAnswer, ScoredImagesSource

_COLUMNS = ("image_url", "score", "region")


def read(source: ScoredImagesSource, region: str, answer: BinaryAnswer) -> Iterator[Example]:
    """Stream the rows of one region; a row without a readable region is reported in every region.

    Raises:
        SourceError: the table cannot be opened, is of another format, or lacks a column.
    """
    path = UPath(source.path)
    for number, row in _rows(path):
        if isinstance(row, str):
            yield _problem(path, number, region, Reason.MALFORMED_LINE, row)
            continue
        found_region = region_name(_text(row.get("region")))
        if not found_region:
            yield _problem(path, number, region, Reason.MISSING_FIELD, f"line {number} has no region")
        elif found_region == region:
            yield _example(source, path, number, row, region, answer)


def _example(
    source: ScoredImagesSource, path: UPath, number: int, row: dict[str, Any], region: str, answer: BinaryAnswer
) -> Example:
    image_url = _text(row.get("image_url"))
    if not image_url:
        return _problem(path, number, region, Reason.MISSING_FIELD, f"line {number} has no image_url")
    on_the_web = image_url.startswith(("http://", "https://"))
    make = partial(
        Example,
        id=f"{region}/{image_url}",
        region=region,
        source=str(path),
        line=number,
        question=source.question,
        group=_text(row.get("group")) or None,
        image=image_url if on_the_web else str(path.parent / image_url),
    )
    if on_the_web:
        detail = f"{image_url!r} is a web address; download it and name the file"
        return make(problem=Reason.IMAGE_MISSING, detail=detail)
    score = _number(row.get("score"))
    if score is None:
        found = _text(row.get("score"))
        reason = Reason.UNPARSEABLE_ANSWER if found else Reason.MISSING_FIELD
        return make(problem=reason, detail=f"score must be a number from 0 to 1, found {found[:40]!r}")
    if not 0 <= score <= 1:
        detail = f"score must be from 0 to 1, found {score:g}"
        return make(score=score, problem=Reason.SCORE_OUT_OF_RANGE, detail=detail)
    word = answer.positive if score > source.threshold else answer.negative
    return make(score=score, answer=word, doubt=_doubt(score, source.doubtful_between))


def _problem(path: UPath, number: int, region: str, reason: Reason, detail: str) -> Example:
    return Example(
        id=f"{path.name}:{number}", region=region, source=str(path), line=number, problem=reason, detail=detail
    )


def _doubt(score: float, between: tuple[float, float] | None) -> str | None:
    if between is None or not between[0] < score < between[1]:
        return None
    return f"the score {score:g} lies between {between[0]:g} and {between[1]:g}"


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _number(value: object) -> float | None:
    try:
        number = float(_text(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _rows(path: UPath) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each record's line (Parquet: row) from 1, with its fields by column or what is wrong with it."""
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SourceError(f"{path}: source.path must end in {', '.join(readers)}, got {path.suffix or 'no suffix'!r}")
    try:
        yield from reader(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error


def _jsonl_rows(path: UPath) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, row in lines(path):
        if not isinstance(row, JsonProblem):
            yield number, row
        elif row.code != "blank_line":
            yield number, row.message


def _csv_rows(path: UPath) -> Iterator[tuple[int, dict[str, Any] | str]]:
    # One record a line: a quote left open then spoils its own line instead of swallowing those that follow.
    with path.open("r", encoding="utf-8-sig", errors="replace", newline=None) as file:
        header = next(csv.reader([file.readline()]), [])
        _require_columns(path, header)
        for number, line in enumerate(file, 2):
            if line.strip():
                yield number, _csv_row(header, line)


def _csv_row(header: list[str], line: str) -> dict[str, str] | str:
    if "\ufffd" in line:
        return "the line is not UTF-8; save the file as UTF-8"
    try:
        cells = next(csv.reader([line.rstrip("\n")], strict=True))
    except csv.Error as error:
        return f"the line cannot be parsed ({error}): {line[:60]!r}"
    if len(cells) != len(header):
        return f"the line has {len(cells)} cells, the header {len(header)}: {line[:60]!r}"
    return dict(zip(header, cells, strict=True))


def _parquet_rows(path: UPath) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    with path.open("rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            _require_columns(path, table.schema_arrow.names)
            columns = [name for name in (*_COLUMNS, "group") if name in table.schema_arrow.names]
            rows = (row for batch in table.iter_batches(columns=columns) for row in batch.to_pylist())
            yield from enumerate(rows, 1)
        except pyarrow.ArrowException as error:
            raise SourceError(f"{path}: is not a readable Parquet file: {error}") from error


def _require_columns(path: UPath, found: list[str]) -> None:
    if missing := [column for column in _COLUMNS if column not in found]:
        raise SourceError(f"{path}: the table lacks the columns {', '.join(missing)}; it has {', '.join(found)}")
