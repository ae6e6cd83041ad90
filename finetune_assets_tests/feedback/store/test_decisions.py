"""A strict majority decides, or an adjudication; what is held out, two blind judgements that agree."""

from __future__ import annotations

import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import (
    RegionFeedback,
    decisions,
    newest_event,
    regions_with_feedback,
    version,
    waiting,
)
from finetune_assets.feedback.store.events import history
from finetune_assets.feedback.store.judging import Decision
from finetune_assets.feedback.store.queues import PURPOSES, hand, release, take
from finetune_assets_tests.feedback.store.builders import (
    NOON,
    REGION,
    TASK,
    answered,
    does,
    item,
    judges_blind,
    offer_items,
    offer_names,
)


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
        blind=False,
        queue=None,
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


def test_an_adjudication_stands_whoever_judges_after_it(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "correct", "a", "No")
    does(db, "cy", "adjudicate", "a", "Yes")
    does(db, "bob", "correct", "a", "No")
    assert verdicts(db) == [("answer", "Yes")]


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_a_held_out_label_is_decided_by_two_blind_judgements_that_agree(db: FeedbackDatabase, split: str) -> None:
    offer_names(db, "a", split=split)
    judges_blind(db, "ann", answer="No")
    assert (verdicts(db), waiting(db, TASK, REGION)) == ([], 1)
    judges_blind(db, "bob", answer="No", queue="second_opinion")
    (found,) = decisions(db, TASK, REGION)
    assert (found.answer, found.blind, found.queue, found.reviewers) == ("No", True, "audit", ("ann", "bob"))
    assert waiting(db, TASK, REGION) == 0


def test_what_is_said_of_a_held_out_example_otherwise_is_kept_and_decides_nothing(db: FeedbackDatabase) -> None:
    offer_names(db, "a b", split="test")
    for reviewer in ("ann", "bob", "cy"):
        does(db, reviewer, "accept", "a", "No", shown={"queue": "audit", "blind": True})
        does(db, reviewer, "reject", "b")
    does(db, "dee", "adjudicate", "a", "No")
    assert (verdicts(db), waiting(db, TASK, REGION)) == ([], 2)
    assert len(history(db, TASK, REGION, "a")) == 4


def test_who_has_seen_what_a_model_says_is_never_blind_again(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    with db.writing() as connection:
        hand(connection, 1, "c-a", "ann", "table", True, NOON)
    assert take(db, TASK, REGION, "audit", "ann") == []
    assert judges_blind(db, "ann", answer="No").shown["blind"] is False
    assert judges_blind(db, "bob", answer="No").shown["blind"] is True
    assert verdicts(db) == []


def test_two_blind_judgements_that_differ_wait_for_an_adjudicator_who_saw_no_model(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    judges_blind(db, "ann", answer="No")
    judges_blind(db, "bob", answer="Yes")
    assert verdicts(db) == []
    (taken,) = take(db, TASK, REGION, "conflicts", "cy")
    assert (taken.model_answer, taken.item.label, len(taken.judgements)) == (None, None, 2)
    does(db, "cy", "adjudicate", "a", "No", shown={"queue": "conflicts"})
    assert [(d.answer, d.blind, d.queue) for d in decisions(db, TASK, REGION)] == [("No", True, "audit")]


def test_what_candidates_contest_counts_when_all_of_it_is_decided(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c", split="test")
    answered(db, a=0.9, b=0.8)
    for reviewer in ("ann", "bob"):
        judges_blind(db, reviewer, "a", "No", queue="contested")
    assert verdicts(db) == []
    for reviewer in ("ann", "bob"):
        judges_blind(db, reviewer, "b", "Yes", queue="contested")
    assert verdicts(db) == [("answer", "No"), ("answer", "Yes")]


def test_accepting_all_that_a_model_says_changes_no_held_out_label(db: FeedbackDatabase) -> None:
    names = [f"e{k}" for k in range(20)]
    offer_names(db, " ".join(names), split="test")
    answered(db, **dict.fromkeys(names, 0.9))
    for queue in PURPOSES:
        for reviewer in ("ann", "bob", "cy"):
            for taken in take(db, TASK, REGION, queue, reviewer, n=100):
                assert taken.model_answer is None, "nothing to accept"
            release(db, reviewer)
    for reviewer in ("ann", "bob", "cy"):
        for name in names:
            with db.writing() as connection:
                hand(connection, names.index(name) + 1, f"c-{name}", reviewer, "table", True, NOON)
            does(db, reviewer, "accept", name, "No", shown={"queue": "audit", "model_answer": "No"})
    assert (verdicts(db), waiting(db, TASK, REGION)) == ([], 20)


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


def test_what_is_judged_in_the_table_is_no_blind_judgement_whatever_else_was_handed(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    for reviewer in ("ann", "bob"):
        take(db, TASK, REGION, "audit", reviewer)
        release(db, reviewer)
        assert does(db, reviewer, "accept", "a", "No", shown={"queue": "table"}).shown["blind"] is False
    assert (verdicts(db), waiting(db, TASK, REGION)) == ([], 1)
