"""Scored images: a table with the columns `image_url`, `score` (0 to 1) and `region`, or others that the task names.

Rows of one group (one patient, one panel) stay in one split: that of the column which the task names, else of a column
`group`, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.reading import table_files
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.sources.answer_cells import AnswerCells
from finetune_assets.dataset.sources.columns import Belongs, own_split
from finetune_assets.dataset.sources.filling import filled, region_of, words_of
from finetune_assets.dataset.sources.origin import Origin
from finetune_assets.dataset.sources.pictures import named_folders, picture, written_name
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.dataset.sources.tables import Table, as_published, tables_of
from finetune_assets.errors import ImageError
from finetune_assets.task.answers import Answer, BinaryAnswer
from finetune_assets.task.sources import ScoredImagesSource, columns_in

_GROUP = "group"
_UNNAMED = f"{{{_GROUP}}}"
"""What says the group where the task does not."""
_FIRST_RECORDS = 100


def read(source: ScoredImagesSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the rows of one region; a row without a readable region is reported in every region.

    Raises:
        SourceError: a table cannot be opened, is of another format, or lacks a column.
    """
    for table in _tables(source):
        belongs = Belongs(source, group=_UNNAMED if _has_a_group(table) else None)
        answers = AnswerCells(source, source.score, table, answer)
        for record, row in table.records(region):
            if isinstance(row, str):
                yield record.problem(Reason.MALFORMED_LINE, row)
                continue
            found_region = region_of(source, row)
            if (origin := record.of(found_region)) is None:
                continue
            if not found_region:
                matches = "" if source.region_pattern is None else " that matches source.region_pattern"
                yield origin.missing(f"{words_of(source.region)}{matches}")
            elif lacks := belongs.lacks(row):
                yield origin.problem(Reason.MISSING_FIELD, f"{origin.words} {lacks}")
            else:
                yield _example(source, origin, row, answers, belongs)
        belongs.require(table.path)


def regions(source: ScoredImagesSource) -> Iterator[str]:
    """Stream the region of each row that has one."""
    for table in _tables(source):
        for _, row in table.rows():
            if not isinstance(row, str):
                yield region_of(source, row)


def _tables(source: ScoredImagesSource) -> Iterator[Table]:
    texts = (source.image, source.score, source.region, source.group, own_split(source))
    needed = [column for written in texts if written for column in columns_in(written)]
    paths = (file for place in locate_all(source.path, source.folder) for file in table_files(place))
    tables = tables_of(paths, source.dialect, needed, [_GROUP, *columns_in(source.subgroup)])
    return as_published(tables, source)


def _has_a_group(table: Table) -> bool:
    """Whether one of the table's first records has a column `group`."""
    return any(_GROUP in row for _, row in islice(table.rows(), _FIRST_RECORDS) if not isinstance(row, str))


def _example(source: ScoredImagesSource, origin: Origin, row: Cells, answers: AnswerCells, belongs: Belongs) -> Example:
    image_url = filled(source.image, row, source.dialect.empties)
    if not image_url:
        return origin.missing(words_of(source.image))
    fields: dict[str, Any] = {
        "id": f"{origin.region}/{name}" if (name := written_name(image_url)) else "",
        "question": source.question,
        "group": belongs.group(row),
        "published": belongs.split(row),
        "subgroup": filled(source.subgroup, row, source.dialect.empties) or None,
    }
    try:
        fields["image"] = picture(image_url, origin.path.parent, named_folders(source.image, source.image_root))
    except ImageError as error:
        return origin.make(problem=error.reason, detail=f"{origin.words}: {error.detail}", **fields)
    return _judged(source, origin, row, answers, fields)


def _judged(
    source: ScoredImagesSource, origin: Origin, row: Cells, answers: AnswerCells, fields: dict[str, Any]
) -> Example:
    found = answers.found(row)
    if found == "":
        detail = f"{origin.words} has no {words_of(source.score)}"
        return origin.make(problem=Reason.MISSING_FIELD, detail=detail, **fields)
    answer = answers.answer
    if source.values is not None or not isinstance(answer, BinaryAnswer):
        return answers.example(origin, found, **fields)
    score = answers.numbers.share(found)
    if score is None:
        detail = f"{words_of(source.score)} must be a number from 0 to 1, found {str(found)[:40]!r}"
        return origin.make(problem=Reason.UNPARSEABLE_ANSWER, detail=detail, **fields)
    return _scored(source, origin, score, answer, fields)


def _scored(
    source: ScoredImagesSource, origin: Origin, score: float, answer: BinaryAnswer, fields: dict[str, Any]
) -> Example:
    if not 0 <= score <= 1:
        remedy = "divide all scores by their highest value"
        detail = f"{words_of(source.score)} must be from 0 to 1, found {score:g}; {remedy}"
        return origin.make(score=score, problem=Reason.SCORE_OUT_OF_RANGE, detail=detail, **fields)
    word = answer.positive if score > source.threshold else answer.negative
    return origin.make(score=score, answer=word, doubt=_doubt(score, source.doubtful_between), **fields)


def _doubt(score: float, between: tuple[float, float] | None) -> str | None:
    if between is None or not between[0] < score < between[1]:
        return None
    return f"the score {score:g} lies between {between[0]:g} and {between[1]:g}"
