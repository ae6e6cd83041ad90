"""Whether a question of multiple choice shows what the letters stand for that it is to be answered with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice

from upath import UPath

from finetune_assets.dataset.choices import with_choices
from finetune_assets.dataset.column_looks import Column, profile
from finetune_assets.dataset.reading import rows
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.reading.parquet import text_columns
from finetune_assets.dataset.sources.columns import needed
from finetune_assets.errors import TaskError
from finetune_assets.task.answers import Answer, ChoiceAnswer
from finetune_assets.task.sources import TableSource

_FIRST_ROWS = 100


def unshown(source: TableSource, answer: Answer, paths: Sequence[UPath]) -> str:
    """Say what question would show it, where columns of the tables do; "" where it is shown, or answers are no signs.

    Raises:
        SourceError: a table cannot be read.
    """
    if not isinstance(answer, ChoiceAnswer) or not all(len(option) == 1 for option in answer.options):
        return ""
    told = f"answers are {', '.join(answer.options[:3])}, ..., and the question does not show what they stand for"
    used = {column.partition(".")[0] for column in needed(source)}
    others = [column for column in _looks(source, paths) if column.name.partition(".")[0] not in used]
    try:
        asked, signs = with_choices(source.question, answer.options, others)
    except TaskError as error:
        return f"{told}; {error}, so write all of it as `question` under source"
    return f"{told}: write `question: {json.dumps(asked, ensure_ascii=False)}` under source" if signs else ""


def _looks(source: TableSource, paths: Sequence[UPath]) -> list[Column]:
    """Look at all columns of the first rows; of Parquet at those whose cells hold no bytes, such as images."""

    def first() -> Iterator[Cells]:
        for path in paths:
            optional = text_columns(path) if path.suffix.lower() == ".parquet" else []
            found = (row for _, row in rows(path, needed(source), optional, source.dialect))
            yield from (row for row in found if not isinstance(row, str))

    return profile(islice(first(), _FIRST_ROWS))
