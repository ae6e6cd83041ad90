"""Where an example was read, and how it becomes one: with its label, or with its problem in words that help."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from upath import UPath

from finetune_assets.dataset.answer_reading import label, unit_said, wanted, why_no_label
from finetune_assets.dataset.answer_reading.number_format import NumberFormat
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.json_lines import kind
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.errors import SourceError
from finetune_assets.task import Split
from finetune_assets.task.answers import Answer, NumberAnswer

MAX_LETTERS = 1_000_000
"""Of a text of an example: more than any model reads at once."""
_KEPT = 1_000
"""Of a longer one, so that a person sees which it is."""
_TEXTS = ("question", "answer", "system")


class UnitsSaid:
    """In which unit each question was answered by texts that say one: `3 weeks` and `2 years` are no numbers beside."""

    _MOST = 10_000

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}

    def add(self, question: str, found: str, place: str) -> None:
        """Take in an answer.

        Raises:
            SourceError: the same question was answered in another unit before.
        """
        unit = unit_said(found)
        if unit is None:
            return
        if len(self._first) < self._MOST:
            self._first.setdefault(key(question), (unit, f"{found[:40]!r} ({place})"))
        first, where = self._first.get(key(question), (unit, ""))
        if first != unit:
            raise SourceError(
                f"{where} and {found[:40]!r} ({place}) answer one question in different units; write all answers in "
                "the same one, or ask for the unit in the question"
            )


@dataclass(frozen=True, slots=True)
class Origin:
    """One record of a source, as it is read for one region."""

    region: str
    """"" where every region is read."""
    path: UPath
    number: int
    """Of the record, from 1."""
    record: str = "line"
    """What the format calls it: line, row, entry, image or file. Only lines and rows are numbered in their file."""
    published: Split | None = None
    """The split that its file was published as, which is used as published."""
    said: UnitsSaid | None = None
    """Of the source, where its answers are texts without a column of their own."""

    @property
    def words(self) -> str:
        """The record in words, such as `line 3`."""
        return f"{self.record} {self.number}"

    def of(self, region: str) -> Origin | None:
        """Take the record for one of the region that it names ("" for none); None where another region is read."""
        if not region or region == self.region:
            return self
        return None if self.region else replace(self, region=region)

    def problem(self, reason: Reason, detail: str) -> Example:
        """Build the row of a record that is no example at all."""
        number = self.number if self.record == "line" else f"{self.record}-{self.number}"
        return self.make(id=f"{self.path.name}:{number}", problem=reason, detail=detail)

    def missing(self, what: str) -> Example:
        """Build the row of a record that lacks something."""
        return self.problem(Reason.MISSING_FIELD, f"{self.words} has no {what}")

    def example(self, found: object, answer: Answer, numbers: NumberFormat | None = None, **fields: Any) -> Example:
        """Build an example with the answer `found` in the record; one that cannot be read is its problem.

        A text is read as a number in the format of its column, where that is known.
        """
        read = label(found, answer, numbers)
        if self.said is not None and isinstance(answer, NumberAnswer) and read is not None:
            self.said.add(str(fields.get("question")), str(found), f"{self.path.name} {self.words}")
        if read is None and (found is None or not str(found).strip()):
            detail = f"{self.words}: the answer is empty; it must be {wanted(answer)}"
            return self.make(problem=Reason.EMPTY_ANSWER, detail=detail, **fields)
        if read is None:
            why = why_no_label(found, answer)
            shown = f"{kind(found)}: {why}" if why else kind(found)
            detail = f"{self.words}: answer must be {wanted(answer)}, found {shown}"
            return self.make(problem=Reason.UNPARSEABLE_ANSWER, detail=detail, **fields)
        if isinstance(answer, NumberAnswer) and read.score is not None and (bounds := _beyond(read.score, answer)):
            detail = f"{self.words}: answer must be {bounds}, found {read.score:g}"
            return self.make(score=read.score, problem=Reason.SCORE_OUT_OF_RANGE, detail=detail, **fields)
        return self.make(answer=read.answer, score=read.score, **fields)

    def make(self, **fields: Any) -> Example:
        """Build an example of this record and region from its other fields."""
        line = self.number if self.record in ("line", "row") else None
        fields["published"] = fields.get("published") or self.published
        for name in _TEXTS:
            if len(written := fields.get(name) or "") > MAX_LETTERS:
                detail = f"{self.words}: the {name} has {len(written):,} letters, and at most {MAX_LETTERS:,} are read"
                fields[name] = written[:_KEPT]
                fields["problem"] = Reason.MALFORMED_LINE
                fields["detail"] = f"{detail}; is it one record, or a file in a cell?"
                break
        return Example(region=self.region, source=str(self.path), line=line, **fields)


def key(*parts: object) -> str:
    """Return a short stable name of what tells an example from others: 16 hexadecimal digits."""
    text = "\0".join("" if part is None else str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _beyond(value: float, answer: NumberAnswer) -> str | None:
    if answer.minimum is not None and value < answer.minimum:
        return f"at least {answer.minimum:g}"
    if answer.maximum is not None and value > answer.maximum:
        return f"at most {answer.maximum:g}"
    return None
