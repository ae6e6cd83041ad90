"""From a table's rows to examples, as a task's `{column}` texts say: what `table` and `huggingface` have in common."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import Any

from finetune_assets.dataset.belonging.named import Named, published
from finetune_assets.dataset.example import Example, Picture, of_several
from finetune_assets.dataset.identity import group_name
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.reading.cells import Cells, cell, text
from finetune_assets.dataset.sources.answer_cells import AnswerCells
from finetune_assets.dataset.sources.filling import filled, filled_with, region_of, words_of
from finetune_assets.dataset.sources.origin import Origin, key
from finetune_assets.dataset.sources.pictures import named_folders, picture, written_name
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.dataset.sources.votes import Vote, counted
from finetune_assets.errors import ImageError
from finetune_assets.task import Split
from finetune_assets.task.answers import Answer, TextAnswer
from finetune_assets.task.faults import nearest
from finetune_assets.task.several_images import images_of
from finetune_assets.task.sources import Columns, OwnSplits, ScoredImagesSource, answers_of, columns_in

MAX_NAMED = 50
"""Columns that a row's problem lists."""
_NO_REGION = "does not match source.region_pattern, so it has no region"
_SHOWN = 80
"""Letters of a cell that are shown."""


def needed(source: Columns) -> list[str]:
    """List the columns that the source's texts name, each once."""
    texts = (
        *(source.region, source.question, *answers_of(source), source.support),
        *(source.group, source.image, source.subgroup, own_split(source), source.annotator),
        source.doubt,
        *(shown.image for shown in images_of(source)),
    )
    return list(dict.fromkeys(column for written in texts if written for column in columns_in(written)))


def read_tables(source: Columns, tables: Iterable[Table], region: str, answer: Answer) -> Iterator[Example]:
    """Stream the examples of one region ("" for all); a row without a readable region is reported in every region."""
    belongs = Belongs(source)
    if len(answers_of(source)) > 1:
        yield from counted(_of_each(source, tables, region, answer, belongs), answer, source.min_agreement)
    elif (annotator := source.annotator) is None:
        for _, _, example in _rows(source, tables, region, answer, belongs):
            yield example
    else:
        found = _rows(source, tables, region, answer, belongs)
        yield from counted((_vote(annotator, *read) for read in found), answer, source.min_agreement)
    belongs.require(getattr(source, "path", None) or getattr(source, "name", ""))


def _rows(
    source: Columns, tables: Iterable[Table], region: str, answer: Answer, belongs: Belongs
) -> Iterator[tuple[Origin, Cells | str, Example]]:
    """Stream each row of a region with its example."""
    for table in tables:
        reader = _RowReader(source, table, answer, belongs)
        for origin, row in table.records(region):
            if (example := reader.read(origin, row)) is not None:
                yield origin, row, example


def _of_each(source: Columns, tables: Iterable[Table], region: str, answer: Answer, belongs: Belongs) -> Iterator[Vote]:
    """Stream the answers of each person, whose names are those of the columns; an empty cell is none.

    A row without any, or with one that cannot be read, is set aside as a whole: nobody's answer is dropped.
    """
    for table in tables:
        readers = {
            written: _RowReader(source.model_copy(update={"answer": written, "answers": None}), table, answer, belongs)
            for written in answers_of(source)
        }
        for origin, row in table.records(region):
            read = {written: reader.read(origin, row) for written, reader in readers.items()}
            found = {words_of(written): example for written, example in read.items() if example is not None}
            given = {who: one for who, one in found.items() if one.problem != Reason.EMPTY_ANSWER}
            faults = [one for one in (given or found).values() if one.problem is not None]
            yield from [Vote(one, "") for one in faults[:1]] or [Vote(one, who) for who, one in given.items()]


def _vote(annotator: str, origin: Origin, row: Cells | str, example: Example) -> Vote:
    """Say whose an answer is; it is set aside where nobody knows, as it might be counted twice."""
    if isinstance(row, str) or example.problem is not None:
        return Vote(example, "")
    by = group_name(filled(annotator, row, ()))
    if by:
        return Vote(example, by)
    detail = f"{origin.words} has no {words_of(annotator)}, so nobody knows whose answer it is"
    return Vote(replace(example, problem=Reason.MISSING_FIELD, detail=detail), by)


def row_regions(source: Columns, tables: Iterable[Table]) -> Iterator[str]:
    """Stream the region of each row that has one."""
    for table in tables:
        for _, row in table.rows():
            if not isinstance(row, str):
                yield region_of(source, row)


class _RowReader:
    """Makes examples of one table's rows."""

    def __init__(self, source: Columns, table: Table, answer: Answer, belongs: Belongs) -> None:
        self._source, self._answer, self._belongs = source, answer, belongs
        self._empty = source.dialect.empties
        self._several = images_of(source)
        self._images = [shown.image for shown in self._several] or ([source.image] if source.image else [])
        folder = getattr(source, "images", None)
        self._folder = folder if isinstance(folder, str) else None
        apart = {*columns_in(source.answer), *(column for written in self._images for column in columns_in(written))}
        self._columns = [column for column in needed(source) if column not in apart]
        # An answer without an explanation is still an answer, and an example without a subgroup still an example.
        optional = ("support", "subgroup", "group", "split", "annotator", "doubt")
        self._asked = frozenset(needed(source.model_copy(update=dict.fromkeys(optional))))
        self._answers = AnswerCells(source, source.answer, table, answer)

    def read(self, origin: Origin, row: Cells | str) -> Example | None:
        """Make an example of a row, or its problem; None where it is of another region."""
        if isinstance(row, str):
            return origin.problem(Reason.MALFORMED_LINE, row)
        region = region_of(self._source, row)
        if (of_region := origin.of(region)) is None:
            return None
        origin = of_region
        texts = {column: text(cell(row, column), self._empty) for column in self._columns}
        empty = None
        if not all(texts.values()):
            empty = next((column for column, written in texts.items() if not written and column in self._asked), None)
        if empty is not None:
            return origin.missing(_lacking(empty, row))
        found = self._answers.found(row)
        if found == "":
            lacking = _lacking(self._answers.missing(row) or self._source.answer, row)
            return origin.problem(Reason.EMPTY_ANSWER, f"{origin.words} has no {lacking}")
        if not region:
            named = filled(self._source.region, row, self._empty)[:_SHOWN]
            why = "cannot be a region's name" if self._source.region_pattern is None else _NO_REGION
            return origin.problem(Reason.MISSING_FIELD, f"{origin.words}: {named!r} {why}")
        if lacks := self._belongs.lacks(row):
            return origin.problem(Reason.MISSING_FIELD, f"{origin.words} {lacks}")
        return self._example(origin, row, texts, self._explained(found, texts))

    def _example(self, origin: Origin, row: Cells, texts: dict[str, str], found: object) -> Example:
        source = self._source
        question = filled(source.question, row, self._empty)
        shown = [_image(written, row, self._empty) for written in self._images]
        if shown and (several := self._list_of_several(row)) is not None:
            return origin.problem(Reason.MALFORMED_LINE, f"{origin.words} has {several}")
        names = [None if image is None else written_name(image) for image in shown]
        fields: dict[str, Any] = {
            "id": "" if "" in names else f"{origin.region}/{key(question, *(names or [None]))}",
            "question": question,
            "group": self._belongs.group(row),
            "published": self._belongs.split(row),
            "subgroup": (filled_with(source.subgroup, texts) or None) if source.subgroup else None,
            "doubt": self._doubt(texts),
        }
        if None in shown:
            lacks = "image" if not self._several else words_of(self._images[shown.index(None)])
            return origin.make(problem=Reason.IMAGE_MISSING, detail=f"{origin.words} has no {lacks}", **fields)
        if shown:
            try:
                fields |= self._pictured(origin, filter(None, shown))
            except ImageError as error:
                return origin.make(problem=error.reason, detail=f"{origin.words}: {error.detail}", **fields)
        return self._answers.example(origin, found, **fields)

    def _list_of_several(self, row: Cells) -> str | None:
        """Say which image is a list of several; None where none is."""
        for column in (column for written in self._images for column in columns_in(written)):
            if isinstance(found := cell(row, column), list) and len(found) > 1:
                which = f'{{image: "{{{column}.0}}"}}, {{image: "{{{column}.1}}"}}'
                return f"{len(found)} images in {column}: name those that are shown by `images: [{which}]`"
        return None

    def _doubt(self, texts: dict[str, str]) -> str | None:
        """Say why the row's label is doubtful; None where a column that says it is empty."""
        written = self._source.doubt
        if written is None or not all(texts[column] for column in columns_in(written)):
            return None
        return filled_with(written, texts)

    def _pictured(self, origin: Origin, shown: Iterable[str | bytes]) -> dict[str, Any]:
        """Return the fields of an example that hold its images.

        Raises:
            ImageError: one of them lies where none may.
        """
        images = [
            picture(image, origin.path.parent, named_folders(written, self._source.image_root, self._folder))
            for written, image in zip(self._images, shown, strict=True)
        ]
        if not self._several:
            return {"image": images[0]}
        return of_several(
            [Picture(image, one.label, one.is_reference) for image, one in zip(images, self._several, strict=True)]
        )

    def _explained(self, found: object, texts: dict[str, str]) -> object:
        """Return a text answer with its explanation, where the row has one."""
        support = self._source.support
        if support is None or not isinstance(self._answer, TextAnswer):
            return found
        if not all(texts[column] for column in columns_in(support)):
            return text(found)
        return f"{text(found)} {self._answer.separator} {filled_with(support, texts)}"


def _lacking(column: str, row: Cells) -> str:
    """Name a column whose cell is empty in a row; where the row has no such column, with those that it has."""
    if column in row:
        return column
    near = "" if column.partition(".")[0] in row else nearest(column, list(row))
    return f"{column}{near}; it has {', '.join(list(row)[:MAX_NAMED])}"


def own_split(source: object) -> str | None:
    """Return the text that says in which split a row was published, where the task names one."""
    return getattr(source, "split", None)


class Belongs:
    """What rows say of their group and of the split that they were published in."""

    def __init__(self, source: Columns | ScoredImagesSource, group: str | None = None) -> None:
        self._group = source.group or group
        self._empty = source.dialect.empties
        self._split = own_split(source)
        self._splits = source.splits if isinstance(source, OwnSplits) else None
        self._groups = Named("source.group", source.group, source.group_pattern)
        self._published = Named("source.split", self._split)

    def lacks(self, row: Cells) -> str:
        """Say what is missing for a row to be in a split with those it belongs to; "" for nothing."""
        if self._group is not None and not self.group(row):
            written = filled(self._group, row, self._empty)
            if self._groups.by_pattern and written:
                return f"has no group: {written[:_SHOWN]!r} does not match source.group_pattern"
            return f"has no {words_of(self._group)}, so nobody knows which rows it belongs to"
        if self._split is not None and self.split(row) is None:
            return f"has no {words_of(self._split)}, so nobody knows which split it was published in"
        return ""

    def group(self, row: Cells) -> str | None:
        """Name a row's group; None where the task names none."""
        if self._group is None:
            return None
        cells = {column: text(cell(row, column), self._empty) for column in columns_in(self._group)}
        if self._groups.by_pattern:
            return self._groups.name(filled_with(self._group, cells), row)
        names = {column: group_name(found) for column, found in cells.items()}
        return self._groups.name(filled_with(self._group, names) if all(names.values()) else "", row)

    def split(self, row: Cells) -> Split | None:
        """Return the split that a row was published in.

        Raises:
            SourceError: the task does not know the word.
        """
        if self._split is None:
            return None
        written = filled(self._split, row, self._empty)
        self._published.name(written, row)
        return published(written, self._splits, "source.split")

    def require(self, path: object) -> None:
        """Refuse a source that has no group, or no published split, in any row though the task names one.

        Raises:
            SourceError: so it is.
        """
        self._groups.require(path)
        self._published.require(path)


def _image(written: str, row: Cells, empty: Container[str]) -> str | bytes | None:
    """Find an image of a row: a path in the cell, or bytes that the table holds inside (a dataset's image feature)."""
    if not (named := columns_in(written)):
        return written
    found = cell(row, named[0])
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    data = found.get("bytes") if isinstance(found, dict) else found
    if isinstance(data, bytes):
        return data
    return (text(found.get("path")) if isinstance(found, dict) else filled(written, row, empty)) or None
