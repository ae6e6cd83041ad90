"""Scored images: a table with the columns `image_url`, `score` (0 to 1) and `region`, or others that the task names.

Rows of one group (one patient, one panel) stay in one split: that of the column which the task names, else of a column
`group`, where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import islice

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sources.columns import Belongs, filled, own_split, region_of
from finetune_assets.dataset.sources.origin import Origin
from finetune_assets.dataset.sources.pictures import named_folders, picture, written_name
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.dataset.sources.records import Cells, record_name, rows, table_files
from finetune_assets.errors import ImageError
from finetune_assets.task import Answer, BinaryAnswer
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
    texts = (source.image, source.score, source.region, source.group, own_split(source))
    needed = [column for text in texts if text for column in columns_in(text)]
    for path in _tables(source):
        belongs = Belongs(source, group=_UNNAMED if _has_a_group(path) else None)
        for number, row in rows(path, needed, [_GROUP, *columns_in(source.subgroup)]):
            origin = Origin(region, path, number, record_name(path))
            if isinstance(row, str):
                yield origin.problem(Reason.MALFORMED_LINE, row)
                continue
            found_region = region_of(source.region, row)
            if not found_region:
                yield origin.missing(_words(source.region))
            elif found_region == region and (lacks := belongs.lacks(row)):
                yield origin.problem(Reason.MISSING_FIELD, f"{origin.words} {lacks}")
            elif found_region == region:
                yield _example(source, origin, row, answer, belongs)
        belongs.require(path)


def regions(source: ScoredImagesSource) -> Iterator[str]:
    """Stream the region of each row that has one."""
    for path in _tables(source):
        for _, row in rows(path, columns_in(source.region)):
            if not isinstance(row, str):
                yield region_of(source.region, row)


def _tables(source: ScoredImagesSource) -> list[UPath]:
    return [table for place in locate_all(source.path, source.folder) for table in table_files(place)]


def _has_a_group(path: UPath) -> bool:
    """Whether one of the table's first records has a column `group`."""
    found = (row for _, row in islice(rows(path, (), (_GROUP,)), _FIRST_RECORDS))
    return any(_GROUP in row for row in found if not isinstance(row, str))


def _example(source: ScoredImagesSource, origin: Origin, row: Cells, answer: Answer, belongs: Belongs) -> Example:
    image_url = filled(source.image, row)
    if not image_url:
        return origin.missing(_words(source.image))
    make = partial(
        origin.make,
        id=f"{origin.region}/{name}" if (name := written_name(image_url)) else "",
        question=source.question,
        group=belongs.group(row),
        published=belongs.split(row),
        subgroup=filled(source.subgroup, row) or None,
    )
    try:
        image = picture(image_url, origin.path.parent, named_folders(source.image, source.image_root))
    except ImageError as error:
        return make(problem=error.reason, detail=f"{origin.words}: {error.detail}")
    make = partial(make, image=image)
    found = filled(source.score, row)
    score = _number(found)
    if score is None:
        reason = Reason.UNPARSEABLE_ANSWER if found else Reason.MISSING_FIELD
        return make(problem=reason, detail=f"{_words(source.score)} must be a number from 0 to 1, found {found[:40]!r}")
    if not isinstance(answer, BinaryAnswer):
        return origin.example(score, answer, **make.keywords)
    if not 0 <= score <= 1:
        detail = (
            f"{_words(source.score)} must be from 0 to 1, found {score:g}; divide all scores by their highest value"
        )
        return make(score=score, problem=Reason.SCORE_OUT_OF_RANGE, detail=detail)
    word = answer.positive if score > source.threshold else answer.negative
    return make(score=score, answer=word, doubt=_doubt(score, source.doubtful_between))


def _doubt(score: float, between: tuple[float, float] | None) -> str | None:
    if between is None or not between[0] < score < between[1]:
        return None
    return f"the score {score:g} lies between {between[0]:g} and {between[1]:g}"


def _words(written: str) -> str:
    return " and ".join(columns_in(written))


def _number(found: str) -> float | None:
    try:
        number = float(found.replace(",", "."))  # a decimal comma, as spreadsheets write it beside semicolons
    except ValueError:
        return None
    return number if math.isfinite(number) else None
