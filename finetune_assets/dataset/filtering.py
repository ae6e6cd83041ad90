"""The QA filter: which sampled examples are clean enough to train on, and why the others are not.

Two passes, so that a region may be larger than memory: the first judges each row by itself and keeps hashes of what it
asks and answers, from which repeats are found; the second writes the clean rows and the quarantine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from upath import UPath

from finetune_assets.dataset import language, outliers, personal_data
from finetune_assets.dataset.comparison import Repeats, answer_key, asked_key, repeats
from finetune_assets.dataset.corrections import PROVENANCE, Reviewed
from finetune_assets.dataset.label_errors import LabelErrors, find_label_errors
from finetune_assets.dataset.quarantine import DTYPES as QUARANTINE_DTYPES
from finetune_assets.dataset.quarantine import Reason, Verdict, quarantined
from finetune_assets.dataset.sampling import DTYPES as SAMPLED_DTYPES
from finetune_assets.dataset.table import Table, records, writing
from finetune_assets.task import HELD_OUT, Filtering
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, ScoreAnswer

DTYPES = SAMPLED_DTYPES | PROVENANCE
"""Columns of the clean examples and their pandas types."""
_JUDGED = ["split", "problem", "detail", "doubt", "answer", "score", "question", "system"]


@dataclass(frozen=True, slots=True)
class Filtered:
    """A region's examples in two parts that add up: `len(clean) + len(quarantine)` is what went in."""

    clean: Table
    """Columns as in `DTYPES`."""
    quarantine: Table
    """Columns as in `quarantine.DTYPES`."""
    by_reason: Counter[str]
    """Number of rows in quarantine for each reason."""
    n_sampled: int
    label_errors: LabelErrors | None
    """Labels that look wrong, where the task asks for them to be looked for."""


def filter_examples(
    sampled: Reviewed, answer: Answer, filtering: Filtering, clean_path: UPath, quarantine_path: UPath
) -> Filtered:
    """Divide sampled examples into clean and quarantined ones, both in the order of the table.

    An example gets the first reason that applies: the problem it came with, or a reviewer's rejection, a doubtful
    label unless the task keeps these, a reviewer decided or the example is `HELD_OUT`, an answer that is empty, none
    of the task's words or out of range, personal data or another language where the task asks for that, an outlier,
    another answer to the same question about the same image (all of them are set aside, but for what a reviewer
    decided), the same example before it (the first stays), a likely label error where the task sets these aside
    (training examples that no reviewer saw).
    """
    judge = _Judge(answer, filtering, sampled)
    has_fault, asked, answers = _first_pass(sampled, judge)
    decided = sampled.decided(len(asked))
    compared = repeats(asked, answers, np.flatnonzero(~has_fault), decided)
    unfit = has_fault | (compared.duplicate_of >= 0) | (compared.contradicts >= 0)
    suspects = None
    if filtering.label_errors != "off" and isinstance(answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
        suspects = find_label_errors(sampled, ~unfit, asked).without(decided)
    aside = suspects.in_training if suspects and filtering.label_errors == "quarantine" else {}
    verdicts = _Verdicts(judge, has_fault, compared, aside, _names(sampled, compared))
    by_reason: Counter[str] = Counter()
    with writing(quarantine_path, QUARANTINE_DTYPES) as quarantine, writing(clean_path, DTYPES) as clean:
        for chunk in sampled.chunks():
            found = dict(sorted(verdicts.of(chunk)))
            bad = chunk.loc[list(found)]
            quarantine.write(quarantined(bad, list(found.values())))
            clean.write(chunk.drop(index=bad.index))
            by_reason.update(str(reason) for reason, _ in found.values())
    return Filtered(Table(clean_path), Table(quarantine_path), by_reason, len(unfit), suspects)


class _Judge:
    """Judges examples one by one."""

    def __init__(self, answer: Answer, filtering: Filtering, sampled: Reviewed) -> None:
        self._answer = answer
        self._filtering = filtering
        self._limits = outliers.Limits()
        if isinstance(answer, NumberAnswer) and filtering.outliers:
            # An array of its own for each chunk, so that the frames can go.
            scores = [chunk["score"].to_numpy(copy=True) for chunk in sampled.chunks(["score"])]
            self._limits = outliers.limits(np.concatenate(scores))

    def fault(self, row: dict[str, Any]) -> Verdict | None:
        """Judge one row of `_JUDGED` columns, None where a value is missing."""
        if row["problem"] is not None:
            return Reason(row["problem"]), row["detail"] or ""
        # Hard cases stay in what judges a model, which would look better without them; they are reported apart.
        if row["doubt"] is not None and self._filtering.doubtful == "quarantine" and row["split"] not in HELD_OUT:
            return Reason.DOUBTFUL_LABEL, row["doubt"]
        return self._answer_fault(row) or self._text_fault(row)

    def _answer_fault(self, row: dict[str, Any]) -> Verdict | None:
        words, score = row["answer"], row["score"]
        if words is None or not words.strip():
            # Of votes that are tied no answer is left, in whatever split.
            return (
                (Reason.DOUBTFUL_LABEL, row["doubt"]) if row["doubt"] else (Reason.EMPTY_ANSWER, "there is no answer")
            )
        match self._answer:
            case BinaryAnswer() | ChoiceAnswer() | ScoreAnswer() as answer:
                allowed = [answer.positive, answer.negative] if isinstance(answer, BinaryAnswer) else answer.options
                if words not in allowed:
                    either = " or ".join(allowed) if len(allowed) < 3 else f"one of {', '.join(allowed)}"
                    return Reason.UNPARSEABLE_ANSWER, f"the answer must be {either}, found {words!r}"
            case NumberAnswer() as answer:
                if score is None:
                    return Reason.UNPARSEABLE_ANSWER, f"the answer must be a number, found {words!r}"
                return self._number_fault(score, answer)
        return None

    def _number_fault(self, value: float, answer: NumberAnswer) -> Verdict | None:
        if answer.minimum is not None and value < answer.minimum:
            return Reason.SCORE_OUT_OF_RANGE, f"{value:g} is below the task's minimum of {answer.minimum:g}"
        if answer.maximum is not None and value > answer.maximum:
            return Reason.SCORE_OUT_OF_RANGE, f"{value:g} is above the task's maximum of {answer.maximum:g}"
        usual = self._limits.fault(value)
        return (Reason.OUTLIER, usual) if usual else None

    def _text_fault(self, row: dict[str, Any]) -> Verdict | None:
        if self._filtering.personal_data:
            for part in ("question", "answer", "system"):
                if row[part] is not None and (found := personal_data.found(row[part])):
                    return Reason.PERSONAL_DATA, f"the {part} holds {found}"
        if self._filtering.language is not None:
            other = language.other_than(f"{row['question'] or ''} {row['answer']}", self._filtering.language)
            return (Reason.OTHER_LANGUAGE, other) if other else None
        return None


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """The verdicts on all rows, made again from what little was kept of them."""

    judge: _Judge
    has_fault: np.ndarray
    compared: Repeats
    suspects: dict[int, str]
    """Detail of each row that is set aside for its label."""
    names: dict[int, tuple[str, str]] = field(repr=False)
    """Id and answer of the rows that others repeat or contradict."""

    def of(self, chunk: pd.DataFrame) -> Iterator[tuple[int, Verdict]]:
        """The verdict on each row of a chunk that has one."""
        at = chunk.index
        faulty = at[self.has_fault[at]]
        for index, row in zip(faulty, records(chunk.loc[faulty, _JUDGED]), strict=True):
            verdict = self.judge.fault(row)
            assert verdict is not None  # noqa: S101 - the same judge found the fault in the first pass
            yield index, verdict
        for index in at[(self.compared.duplicate_of[at] >= 0) | (self.compared.contradicts[at] >= 0)]:
            yield index, self._repeat(index)
        yield from ((index, (Reason.LABEL_ERROR, self.suspects[index])) for index in at if index in self.suspects)

    def _repeat(self, index: int) -> Verdict:
        first = int(self.compared.duplicate_of[index])
        if first >= 0:
            return Reason.DUPLICATE, f"the same as {self.names[first][0]}"
        pair = (self.names[int(rows[index])] for rows in (self.compared.contradicts, self.compared.opposed_by))
        return Reason.CONTRADICTORY_ANSWERS, ", ".join(f"{name} says {said}" for name, said in pair)


def _first_pass(sampled: Reviewed, judge: _Judge) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each row has a fault of its own, and the keys of what it asks and answers."""
    parts = [
        (
            np.array([judge.fault(row) is not None for row in records(chunk.filter(_JUDGED))], bool),
            asked_key(chunk),
            answer_key(chunk),
        )
        for chunk in sampled.chunks([*_JUDGED, "image_sha256", "pictures"])
    ]
    has_fault, asked, answers = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return has_fault, asked, answers


def _names(sampled: Reviewed, compared: Repeats) -> dict[int, tuple[str, str]]:
    """Id and answer of the rows that a verdict on others names."""
    named = np.zeros(len(compared.contradicts), bool)
    for rows in (compared.duplicate_of, compared.contradicts, compared.opposed_by):
        named[rows[rows >= 0]] = True
    names: dict[int, tuple[str, str]] = {}
    if named.any():
        for chunk in sampled.chunks(["example_id", "answer"]):
            wanted = chunk.loc[named[chunk.index]]
            names.update(zip(wanted.index, wanted.itertuples(index=False, name=None), strict=True))
    return names
