"""A strict majority decides, or an adjudication after it; else the reviewers are in conflict."""

from __future__ import annotations

import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import (
    RegionFeedback,
    decisions,
    newest_event,
    regions_with_feedback,
    version,
)
from finetune_assets.feedback.store.judging import Decision
from finetune_assets_tests.feedback.store.builders import NOON, REGION, TASK, does, item, offer_items, offer_names


def verdicts(db: FeedbackDatabase) -> list[tuple[str, str | None]]:
    return [(decision.verdict, decision.answer) for decision in decisions(db, TASK, REGION)]


def test_one_judgement_decides_and_says_all_that_training_needs(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    last = does(db, "ann", "correct", "a", "No", NOON, comment="a crack")
    expected = Decision(
        example_id="a",
        content="c-a",
        verdict="answer",
        answer="No",
        reviewers=("ann",),
        n_judgements=1,
        decided_at=NOON,
        last_event=last.number,
        comment="a crack",
    )
    assert decisions(db, TASK, REGION) == [expected]


def test_two_who_differ_decide_nothing_and_a_third_does(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "accept", "a", "Yes")
    does(db, "bob", "reject", "a")
    assert verdicts(db) == []
    does(db, "cy", "reject", "a")
    assert [(d.verdict, d.reviewers, d.n_judgements) for d in decisions(db, TASK, REGION)] == [
        ("reject", ("bob", "cy"), 3)
    ]


def test_half_is_no_majority(db: FeedbackDatabase) -> None:
    offer_names(db, "a", kind="choice", options=("x", "y", "z"))
    for reviewer, answer in zip("abcd", "xxyz", strict=True):
        does(db, reviewer, "correct", "a", answer)
    assert verdicts(db) == []


def test_a_reviewer_who_judges_again_counts_once_as_he_did_last(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    for answer in ("Yes", "Yes", "No"):
        does(db, "ann", "correct", "a", answer)
    does(db, "bob", "correct", "a", "No")
    assert [(d.answer, d.n_judgements) for d in decisions(db, TASK, REGION)] == [("No", 2)]


@pytest.mark.parametrize(("answer", "verdict"), [("Yes", "answer"), (None, "reject")])
def test_an_adjudication_after_all_judgements_decides(db: FeedbackDatabase, answer: str | None, verdict: str) -> None:
    offer_names(db, "a")
    for reviewer in ("ann", "bob"):
        does(db, reviewer, "correct", "a", "No")
    does(db, "cy", "adjudicate", "a", answer)
    assert [(d.verdict, d.answer, d.reviewers) for d in decisions(db, TASK, REGION)] == [(verdict, answer, ("cy",))]


def test_a_judgement_after_an_adjudication_opens_the_question_again(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "correct", "a", "No")
    does(db, "cy", "adjudicate", "a", "Yes")
    does(db, "bob", "correct", "a", "Yes")
    assert verdicts(db) == []


@pytest.mark.parametrize(("kind", "said"), [("number", ("$12.50", "12.5")), ("text", ("Two  words", "two words"))])
def test_answers_agree_that_mean_the_same(db: FeedbackDatabase, kind: str, said: tuple[str, str]) -> None:
    offer_items(db, item("a", kind=kind, options=(), label="1"))
    for reviewer, answer in zip(("ann", "bob"), said, strict=True):
        does(db, reviewer, "correct", "a", answer)
    assert verdicts(db) == [("answer", said[1])]


def test_skips_and_comments_decide_nothing(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "skip", "a")
    does(db, "bob", "comment", "a", comment="hard to see")
    assert verdicts(db) == []
    does(db, "cy", "reject", "a")
    assert [d.comment for d in decisions(db, TASK, REGION)] == ["hard to see"]


def test_decisions_come_by_example(db: FeedbackDatabase) -> None:
    offer_names(db, "b a C")
    for name in ("b", "a", "C"):
        does(db, "ann", "reject", name)
    assert [d.example_id for d in decisions(db, TASK, REGION)] == ["C", "a", "b"]


def test_the_version_changes_with_what_is_trained_on_and_with_nothing_else(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    empty = version(decisions(db, TASK, REGION))
    number = does(db, "ann", "accept", "a", "Yes").number
    one = version(decisions(db, TASK, REGION))
    does(db, "bob", "accept", "a", "Yes", comment="sure")
    assert version(decisions(db, TASK, REGION)) == one != empty
    does(db, "ann", "reject", "b")
    assert version(decisions(db, TASK, REGION)) != one
    does(db, "ann", "undo", "a", undoes=number)
    assert version(reversed(decisions(db, TASK, REGION))) == version(decisions(db, TASK, REGION))


def test_regions_say_how_far_they_are(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    offer_names(db, "c", region="poly")
    offer_names(db, "d", region="untouched")
    does(db, "ann", "accept", "a", "Yes")
    does(db, "ann", "accept", "b", "Yes")
    does(db, "ann", "skip", "c", region="poly")
    assert regions_with_feedback(db, TASK) == {"mono": RegionFeedback(2, 2), "poly": RegionFeedback(0, 3)}
    assert [newest_event(db, TASK, region) for region in ("mono", "poly", "untouched")] == [2, 3, 0]
