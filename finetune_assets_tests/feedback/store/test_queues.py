"""Each queue holds what its name says, in its order; an example is before one reviewer at a time."""

from __future__ import annotations

import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.offers import ModelAnswer, offer_answers
from finetune_assets.feedback.store.queues import (
    LEASE_SECONDS,
    Queue,
    UnknownQueueError,
    progress,
    release,
    retake,
    take,
)
from finetune_assets_tests.feedback.store.builders import (
    NOON,
    REGION,
    TASK,
    answered,
    does,
    item,
    offer_items,
    offer_names,
)


def takes(db: FeedbackDatabase, queue: Queue, reviewer: str = "ann", n: int = 100, now: float = NOON) -> str:
    return " ".join(taken.item.example_id for taken in take(db, TASK, REGION, queue, reviewer, n, now))


def test_doubtful_holds_what_waits_in_quarantine(db: FeedbackDatabase) -> None:
    offer_items(db, item("a"), item("b", doubt="label error"), item("c", doubt="experts differ"), item("d"))
    assert takes(db, "doubtful") == "c b", "by what is doubted"


def test_uncertain_begins_with_a_probability_near_one_half(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d")
    answered(db, a=0.9, b=0.45, c=0.6)
    assert takes(db, "uncertain") == "b c a"


def test_uncertain_begins_with_the_least_probable_of_several_options(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c", kind="choice", options=("Yes", "No", "Maybe"))
    answered(db, a=0.9, b=0.45, c=0.2)
    assert takes(db, "uncertain") == "c b a"


def test_uncertain_begins_with_what_was_chosen_to_be_unlike_each_other(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d")
    told = {"a": (0.9, 1), "b": (0.5, None), "c": (0.8, 0), "d": (0.6, None)}
    said = [ModelAnswer(example_id=k, model="m", answer="Yes", probability=p, place=n) for k, (p, n) in told.items()]
    offer_answers(db, TASK, REGION, said)
    assert takes(db, "uncertain") == "c a b d"


def test_disagreement_begins_with_the_most_certain_model(db: FeedbackDatabase) -> None:
    offer_items(db, item("a"), item("b"), item("c", label="No"), item("d"))
    answered(db, a=0.6, b=0.9, c=0.99)
    assert takes(db, "disagreement") == "b a"


def test_disagreement_of_numbers_begins_with_the_largest_difference(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c", kind="number", options=(), label="100")
    said = {"a": "90", "b": "10", "c": "100.0"}
    offer_answers(db, TASK, REGION, [ModelAnswer(example_id=k, model="m", answer=v) for k, v in said.items()])
    assert takes(db, "disagreement") == "b a"


def test_audit_is_in_an_order_of_its_own_that_stays(db: FeedbackDatabase) -> None:
    names = " ".join(f"e{k:02}" for k in range(40))
    offer_names(db, names, split="test")
    order = takes(db, "audit")
    assert sorted(order.split()) == names.split()
    assert order != names
    release(db, "ann")
    assert takes(db, "audit", "bob") == order


def test_second_opinion_holds_what_one_other_reviewer_has_judged(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c")
    does(db, "bob", "accept", "a", "Yes")
    does(db, "ann", "accept", "b", "Yes")
    does(db, "cy", "skip", "c")
    assert (takes(db, "second_opinion", "ann"), takes(db, "second_opinion", "bob")) == ("a", "b")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_second_opinion_is_blind(db: FeedbackDatabase, split: str) -> None:
    offer_names(db, "a", doubt="doubted", split=split)
    answered(db, a=0.9)
    assert retake(db, TASK, REGION, "a", "audit", "bob")
    does(db, "bob", "correct", "a", "No", comment="clearly", shown={"queue": "audit"})
    (taken,) = take(db, TASK, REGION, "second_opinion", "ann")
    assert (taken.blind, taken.judgements, taken.model_answer) == (True, (), None)
    assert (taken.item.label, taken.item.label_value, taken.item.doubt) == (None, None, None)


@pytest.mark.parametrize("queue", ["doubtful", "audit", "contested"])
@pytest.mark.parametrize("split", ["calibration", "test"])
def test_a_held_out_example_is_blind_in_every_queue(db: FeedbackDatabase, queue: Queue, split: str) -> None:
    offer_names(db, "a", doubt="doubted", split=split)
    answered(db, a=0.9)
    (taken,) = take(db, TASK, REGION, queue, "ann")
    assert (taken.blind, taken.model_answer, taken.item.label, taken.item.doubt) == (True, None, None, None)


@pytest.mark.parametrize("queue", ["uncertain", "disagreement"])
def test_queues_that_teach_hold_training_examples_alone(db: FeedbackDatabase, queue: Queue) -> None:
    offer_items(db, item("a", split="test"), item("b", split="calibration"), item("c"), item("d", split="validation"))
    answered(db, a=0.9, b=0.8, c=0.7, d=0.6)
    assert sorted(takes(db, queue).split()) == ["c", "d"]


def test_conflicts_show_who_said_what_until_somebody_adjudicates(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    does(db, "ann", "accept", "a", "Yes", now=NOON)
    does(db, "bob", "reject", "a", comment="blurred", now=NOON)
    (taken,) = take(db, TASK, REGION, "conflicts", "cy", now=NOON)
    said = [(judgement.reviewer, judgement.answer, judgement.comment) for judgement in taken.judgements]
    assert said == [("ann", "Yes", None), ("bob", None, "blurred")]
    does(db, "cy", "adjudicate", "a", "Yes", now=NOON)
    assert takes(db, "conflicts", "cy") == ""


def test_nobody_is_given_a_conflict_in_which_he_took_part(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    for name, second in (("a", "ann"), ("b", "cy")):
        does(db, "bob", "accept", name, "Yes")
        does(db, second, "correct", name, "No")
    assert (takes(db, "conflicts", "ann"), takes(db, "conflicts", "bob")) == ("b", "")


@pytest.mark.parametrize("queue", ["doubtful", "uncertain", "disagreement"])
def test_what_is_decided_is_asked_no_more(db: FeedbackDatabase, queue: Queue) -> None:
    offer_names(db, "a b", doubt="doubted")
    answered(db, a=0.6, b=0.6)
    does(db, "bob", "accept", "a", "Yes")
    assert takes(db, queue) == "b"


def test_a_judgement_takes_an_example_out_of_its_reviewers_queues_and_undoing_brings_it_back(
    db: FeedbackDatabase,
) -> None:
    offer_names(db, "a", split="test")
    number = does(db, "ann", "accept", "a", "Yes").number
    assert (takes(db, "audit"), takes(db, "audit", "bob")) == ("", "a")
    release(db, "bob")
    does(db, "ann", "undo", "a", undoes=number)
    assert takes(db, "audit") == "a"


def test_what_is_skipped_comes_back_when_all_else_is_done(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c", doubt="doubted")
    for name in ("a", "b"):
        does(db, "ann", "skip", name)
    assert (takes(db, "doubtful", n=1), takes(db, "doubtful")) == ("c", "c a b")
    release(db, "ann")
    does(db, "ann", "skip", "a", now=NOON)
    assert (takes(db, "doubtful"), takes(db, "doubtful", "bob", now=NOON + LEASE_SECONDS)) == ("c b a", "a b c")


def test_two_reviewers_never_have_the_same_example(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c", doubt="doubted")
    assert [takes(db, "doubtful", who, n=2) for who in ("ann", "bob", "cy")] == ["a b", "c", ""]
    assert takes(db, "audit", "cy") == "", "whatever the queue"


def test_a_reviewer_who_comes_again_finds_the_same_examples_in_the_same_order(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d", doubt="doubted")
    assert takes(db, "doubtful", n=2) == "a b"
    does(db, "ann", "accept", "a", "Yes", now=NOON)
    assert (takes(db, "doubtful", n=2), takes(db, "doubtful", n=2)) == ("b c", "b c")


def test_an_example_is_free_again_after_a_quarter_of_an_hour(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    takes(db, "audit", "ann", now=NOON)
    assert takes(db, "audit", "bob", now=NOON + LEASE_SECONDS - 1) == ""
    assert takes(db, "audit", "bob", now=NOON + LEASE_SECONDS) == "a"
    assert takes(db, "audit", "ann", now=NOON + LEASE_SECONDS) == ""


def test_taking_again_renews_the_lease(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    takes(db, "audit", "ann", now=NOON)
    (taken,) = take(db, TASK, REGION, "audit", "ann", now=NOON + 600)
    assert taken.until == NOON + 600 + LEASE_SECONDS
    assert takes(db, "audit", "bob", now=NOON + LEASE_SECONDS + 1) == ""


def test_released_examples_are_free_at_once(db: FeedbackDatabase) -> None:
    offer_names(db, "a b", split="test")
    takes(db, "audit", "ann")
    release(db, "ann")
    assert len(takes(db, "audit", "bob").split()) == 2


def test_an_undone_example_is_taken_again_before_all_others(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c", doubt="doubted")
    number = does(db, "ann", "accept", "a", "Yes", now=NOON).number
    assert takes(db, "doubtful", n=2) == "b c"
    does(db, "ann", "undo", "a", undoes=number, now=NOON)
    taken = retake(db, TASK, REGION, "a", "doubtful", "ann", NOON)
    assert taken is not None
    assert taken.item.example_id == "a"
    assert takes(db, "doubtful", n=2) == "a b"


def test_what_another_reviewer_has_is_not_taken_again(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    takes(db, "audit", "bob")
    assert retake(db, TASK, REGION, "a", "audit", "ann", NOON) is None


def test_a_queue_of_another_name_is_refused(db: FeedbackDatabase) -> None:
    with pytest.raises(UnknownQueueError, match="doubtful, uncertain"):
        takes(db, "all")  # pyright: ignore[reportArgumentType]


def test_progress_counts_what_is_left_and_what_is_done(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d", split="test")
    takes(db, "audit", "bob", n=1)
    release(db, "bob")
    does(db, "ann", "accept", "a", "Yes", now=NOON - 86_400 * 2, seconds=12.0)
    undone = does(db, "ann", "accept", "b", "Yes", now=NOON, seconds=600.0)
    does(db, "ann", "undo", "b", undoes=undone.number, now=NOON)
    does(db, "ann", "accept", "b", "Yes", now=NOON, seconds=8.0)
    does(db, "bob", "accept", "c", "Yes", now=NOON)
    seen = progress(db, TASK, REGION, "audit", "ann", NOON)
    assert (seen.left, seen.done_today, seen.per_hour) == (2, 1, 360.0)


def test_nobody_has_a_pace_before_his_first_judgement(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    assert progress(db, TASK, REGION, "audit", "ann").per_hour is None
