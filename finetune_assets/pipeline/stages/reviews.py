"""The reviewers' side of a region: what they decided is read, and what they are to look at is offered.

Decisions are needed to go on, so a database that does not answer fails whoever reads them. Offers are not: a run that
costs money is not lost because reviewers have to wait for the next one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from finetune_assets.asking.predictions import CALIBRATED
from finetune_assets.dataset.answer_reading import options_of
from finetune_assets.dataset.corrections import DTYPES
from finetune_assets.dataset.filtering import Filtered
from finetune_assets.dataset.identity import content
from finetune_assets.dataset.label_errors import LabelErrors
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.shown import seen_sha256
from finetune_assets.dataset.table import records
from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.calibration import Calibrator
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator
from finetune_assets.evaluation.prediction import Prediction, read_predictions
from finetune_assets.results.region import Region
from finetune_assets.task import HELD_OUT, Task
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, ScoreAnswer

if TYPE_CHECKING:
    from finetune_assets.feedback.store.database import FeedbackDatabase
    from finetune_assets.feedback.store.decisions import Decision
    from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem

UNLEARNED = "a simple classifier that did not learn it"
NOT_INSTALLED = "reviewers need the extra feedback: pip install 'finetune_assets[feedback]'"
_TO_DECIDE = (Reason.DOUBTFUL_LABEL, Reason.LABEL_ERROR, Reason.CONTRADICTORY_ANSWERS)
_TO_SHOW = (*_TO_DECIDE, Reason.REJECTED_BY_REVIEWER)
"""Reasons of quarantine that reviewers can do something about; a rejection may have been a mistake."""


def opened() -> FeedbackDatabase | None:
    """Open the reviewers' database, made where there is none; None where its packages are not installed.

    Raises:
        FeedbackDatabaseError: it cannot be reached.
    """
    if importlib.util.find_spec("sqlalchemy") is None:
        return None
    from finetune_assets.feedback.store.database import FeedbackDatabase

    return FeedbackDatabase()


def as_table(decisions: Iterable[Decision]) -> pd.DataFrame:
    """Return decisions as `dataset.corrections` applies them, columns as in its `DTYPES`."""
    rows = [
        {
            "example_id": decision.example_id,
            "content": decision.content,
            "answer": decision.answer if decision.verdict == "answer" else None,
            "reviewed_by": ", ".join(decision.reviewers),
            "reviewed_at": datetime.fromtimestamp(decision.decided_at, UTC).isoformat(timespec="seconds"),
            "comment": decision.comment,
            "n_judgements": decision.n_judgements,
            "blind": decision.blind,
            "queue": decision.queue,
        }
        for decision in decisions
    ]
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def offer_examples(region: Region, filtered: Filtered) -> str:
    """Lay the region's examples before the reviewers; say in words how many they are, or why they are not."""

    def offer(db: FeedbackDatabase) -> int:
        from finetune_assets.feedback.store import offers
        from finetune_assets.feedback.store.guides import Guide, set_guide

        review = region.task.review
        guide = Guide(
            guidelines=review.guidelines,
            judgements=review.judgements,
            show_model=tuple(review.show_model),
            gold=review.gold,
        )
        set_guide(db, region.task.task, guide)
        n = offers.offer(db, region.task.task, region.name, _items(region.task, filtered))
        if filtered.label_errors is not None:
            unlearned = _unlearned(filtered.label_errors)
            offers.offer_answers(db, region.task.task, region.name, unlearned, ("train", "validation"))
        return n

    return _offered(offer, "examples")


def offer_answers(region: Region, predictions: pd.DataFrame, calibrator: Calibrator) -> str:
    """Lay what the model says about the held-out examples beside them; say in words how many, or why not."""

    def offer(db: FeedbackDatabase) -> int:
        from finetune_assets.feedback.store import offers

        answers = _answers(region.task, predictions, calibrator)
        return offers.offer_answers(db, region.task.task, region.name, answers, HELD_OUT)

    return _offered(offer, "answers of the model")


def _offered(offer: Callable[[FeedbackDatabase], int], what: str) -> str:
    try:
        db = opened()
        if db is None:
            return NOT_INSTALLED
        with db:
            return f"{offer(db):,} {what} are open to reviewers: `finetune-assets feedback`"
    except FinetuneAssetsError as error:
        dg.get_dagster_logger().warning(f"no {what} could be offered to reviewers: {error}")
        return f"NOT offered to reviewers: {error}"


def _items(task: Task, filtered: Filtered) -> Iterator[ReviewItem]:
    """Stream the clean examples, then those in quarantine about which a reviewer can say something."""
    from finetune_assets.feedback.store.offers import ReviewItem

    options = options_of(task.answer) if isinstance(task.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer) else ()
    shown = [str(reason) for reason in _TO_SHOW]
    waiting = (chunk.loc[chunk["reason"].isin(shown)] for chunk in filtered.quarantine.chunks())
    for row in chain.from_iterable(map(records, chain(filtered.clean.chunks(), waiting))):
        yield ReviewItem(
            task=task.task,
            region=row["region"],
            example_id=row["example_id"],
            content=content(row["question"], row["system"], seen_sha256(row)),
            split=row["split"],
            question=row["question"] or "",
            image=row["image"],
            original=row["image_original"],
            pictures=row.get("pictures"),
            label=row["answer"],
            label_value=row["score"],
            kind=task.answer.kind,
            options=options,
            doubt=row["detail"] if row.get("reason") in _TO_DECIDE else row.get("doubt"),
        )


def _unlearned(found: LabelErrors) -> Iterator[ModelAnswer]:
    """What a classifier that did not learn a training example says of it: the fine-tuned model has."""
    from finetune_assets.feedback.store.offers import ModelAnswer

    for row in records(found.unlearned):
        yield ModelAnswer(
            example_id=row["example_id"],
            model=UNLEARNED,
            answer=row["likely"],
            probability=float(row["chance"]),
            place=int(row["place"]) if row["place"] >= 0 else None,
        )


def _answers(task: Task, predictions: pd.DataFrame, calibrator: Calibrator) -> Iterator[ModelAnswer]:
    from finetune_assets.feedback.store.offers import ModelAnswer

    base, champion = (
        {row.example_id: row.predicted for row in read_predictions(predictions, "test", role)}
        for role in ("base", "champion")
    )
    for split in CALIBRATED:
        for row in read_predictions(predictions, split, "fine_tuned"):
            yield ModelAnswer(
                example_id=row.example_id,
                model=row.model,
                answer=row.predicted,
                probability=_chance(task, row, calibrator),
                base_answer=base.get(row.example_id),
                champion_answer=champion.get(row.example_id),
            )


def _chance(task: Task, row: Prediction, calibrator: Calibrator) -> float | None:
    """Return the calibrated probability that a model's answer is right; numbers have none."""
    if isinstance(calibrator, ConformalCalibrator):
        return None
    answer = task.answer
    score = row.p_positive if isinstance(answer, BinaryAnswer) else row.p_predicted
    p = calibration.of_answer(calibrator, score, row.predicted, row.weighed, model=row.model)
    if p is None or row.predicted is None:
        return None
    return 1 - p if isinstance(answer, BinaryAnswer) and row.predicted == answer.negative else p
