"""The QA filter: which sampled examples are clean enough to train on, and why the others are not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pandas as pd

from finetune_assets.dataset.quarantine import Reason, Verdict, quarantined
from finetune_assets.task import BinaryAnswer


@dataclass(frozen=True, slots=True)
class Filtered:
    """A region's examples in two parts that add up: `len(clean) + len(quarantine)` is what went in."""

    clean: pd.DataFrame
    """Columns as in the sampled examples."""
    quarantine: pd.DataFrame
    """Columns as in `quarantine.DTYPES`."""


def filter_examples(frame: pd.DataFrame, answer: BinaryAnswer) -> Filtered:
    """Divide sampled examples into clean and quarantined ones, both in the order of the frame.

    An example gets the first reason that applies: the problem it came with, a doubtful label, an answer that is not
    one of the task's words, another answer to the same question about the same image (all of them are set aside),
    the same example before it (the first stays).
    """
    words = (answer.positive, answer.negative)
    problems, details, doubts, answers = (_cells(frame, c) for c in ("problem", "detail", "doubt", "answer"))
    own = [_own_fault(*row, words) for row in zip(problems, details, doubts, answers, strict=True)]
    verdicts = {index: verdict for index, verdict in enumerate(own) if verdict is not None}
    verdicts |= _comparison(frame, [index for index in range(len(frame)) if index not in verdicts])
    bad = sorted(verdicts)
    clean = [index for index in range(len(frame)) if index not in verdicts]
    return Filtered(
        clean=frame.take(clean).reset_index(drop=True),
        quarantine=quarantined(frame.take(bad), [verdicts[index] for index in bad]),
    )


def _cells(frame: pd.DataFrame, column: str) -> list[str | None]:
    """One column as text, None where a value is missing."""
    return [None if pd.isna(value) else str(value) for value in frame[column]]


def _own_fault(
    problem: str | None, detail: str | None, doubt: str | None, answer: str | None, words: tuple[str, str]
) -> Verdict | None:
    """Judge an example by itself."""
    if problem is not None:
        return Reason(problem), detail or ""
    if doubt is not None:
        return Reason.DOUBTFUL_LABEL, doubt
    if answer not in words:
        return Reason.UNPARSEABLE_ANSWER, f"the answer must be {words[0]} or {words[1]}, found {answer!r}"
    return None


def _comparison(frame: pd.DataFrame, candidates: list[int]) -> dict[int, Verdict]:
    """Judge the examples that ask the same about the same image, by content; case makes no difference."""
    ids, answers, images, questions = (_cells(frame, c) for c in ("example_id", "answer", "image_sha256", "question"))
    asked: dict[tuple[str | None, str], list[int]] = defaultdict(list)
    for index in candidates:
        asked[images[index], (questions[index] or "").strip().casefold()].append(index)
    verdicts: dict[int, Verdict] = {}
    for first, *others in asked.values():
        opposing = next((index for index in others if answers[index] != answers[first]), None)
        if opposing is None:
            verdicts |= dict.fromkeys(others, (Reason.DUPLICATE, f"the same as {ids[first]}"))
        else:
            detail = f"{ids[first]} says {answers[first]}, {ids[opposing]} says {answers[opposing]}"
            verdicts |= dict.fromkeys((first, *others), (Reason.CONTRADICTORY_ANSWERS, detail))
    return verdicts
