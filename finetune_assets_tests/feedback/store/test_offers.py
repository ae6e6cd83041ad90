"""What the pipeline offers is what reviewers see; nothing that was offered is ever deleted."""

from __future__ import annotations

import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import decisions
from finetune_assets.feedback.store.events import history
from finetune_assets.feedback.store.guides import Guide, set_guide
from finetune_assets.feedback.store.offers import ModelAnswer, OfferedRegion, offer, offer_answers, offered_regions
from finetune_assets.feedback.store.queues import Queue, take
from finetune_assets.task import HELD_OUT
from finetune_assets_tests.feedback.store.builders import REGION, TASK, answered, does, item, offer_items, offer_names


def names(db: FeedbackDatabase, queue: Queue = "doubtful", reviewer: str = "ann", region: str = REGION) -> list[str]:
    return [taken.item.example_id for taken in take(db, TASK, region, queue, reviewer, n=100)]


def test_an_item_is_given_to_reviewers_as_it_was_offered(db: FeedbackDatabase) -> None:
    number = item("b", kind="number", options=(), label="12 %", label_value=12.0, image="s3://x/b.png", doubt="outlier")
    first = item("a", doubt="outlier")
    offer_items(db, first, number)
    assert {taken.item.example_id: taken.item for taken in take(db, TASK, REGION, "doubtful", "ann")} == {
        "a": first,
        "b": number,
    }


def test_a_region_holds_exactly_what_was_offered_last(db: FeedbackDatabase) -> None:
    assert offer_names(db, "a b c", doubt="doubted") == 3
    assert offer_names(db, "b c d", doubt="doubted") == 3
    assert sorted(names(db)) == ["b", "c", "d"]
    assert offered_regions(db) == [OfferedRegion(TASK, REGION, 3)]


def test_a_region_that_is_offered_nothing_is_empty(db: FeedbackDatabase) -> None:
    offer_names(db, "a", doubt="doubted")
    assert offer(db, TASK, REGION, []) == 0
    assert (names(db), offered_regions(db)) == ([], [])


def test_another_region_is_left_alone(db: FeedbackDatabase) -> None:
    offer_names(db, "a", doubt="doubted")
    offer_names(db, "a b", doubt="doubted", region="poly")
    assert (names(db), sorted(names(db, region="poly", reviewer="bob"))) == (["a"], ["a", "b"])


def test_an_item_of_another_region_is_refused(db: FeedbackDatabase) -> None:
    with pytest.raises(ValueError, match="item a is of cells/mono, not of cells/poly"):
        offer(db, TASK, "poly", [item("a")])


def test_more_items_than_a_statement_may_name(db: FeedbackDatabase) -> None:
    offered = [item(f"e{k}") for k in range(1234)]
    assert (offer(db, TASK, REGION, iter(offered)), offer(db, TASK, REGION, iter(offered))) == (1234, 1234)
    assert offered_regions(db) == [OfferedRegion(TASK, REGION, 1234)]


def test_what_is_withdrawn_keeps_its_events_and_its_decision(db: FeedbackDatabase) -> None:
    offer_names(db, "a b", doubt="doubted")
    does(db, "ann", "reject", "a")
    offer_names(db, "b", doubt="doubted")
    assert [event.kind for event in history(db, TASK, REGION, "a")] == ["reject"]
    assert [(d.example_id, d.verdict) for d in decisions(db, TASK, REGION)] == [("a", "reject")]
    assert names(db) == ["b"]


def test_an_example_whose_content_has_changed_waits_for_its_reviewers_again(db: FeedbackDatabase) -> None:
    offer_names(db, "a", doubt="doubted")
    does(db, "ann", "accept", "a", "Yes")
    assert names(db) == []
    offer_names(db, "a", doubt="doubted", content="other")
    assert names(db) == ["a"]
    assert [d.content for d in decisions(db, TASK, REGION)] == ["c-a"], "the pipeline sees that it no longer fits"


def test_judgements_hold_again_when_the_content_is_what_it_was(db: FeedbackDatabase) -> None:
    offer_names(db, "a", doubt="doubted")
    does(db, "ann", "accept", "a", "Yes")
    offer_names(db, "a", doubt="doubted", content="other")
    does(db, "bob", "correct", "a", "No")
    offer_names(db, "a", doubt="doubted")
    assert [(d.answer, d.content) for d in decisions(db, TASK, REGION)] == [("Yes", "c-a")]
    assert (names(db, reviewer="ann"), names(db, reviewer="bob")) == ([], [])


def test_a_changed_label_or_doubt_keeps_judgements_and_answer(db: FeedbackDatabase) -> None:
    offer_names(db, "a", doubt="doubted")
    answered(db, a=0.9)
    assert names(db, "disagreement") == ["a"]
    offer_names(db, "a", label="No", doubt="experts differ")
    assert (names(db, "disagreement"), names(db, "doubtful"), names(db, "uncertain")) == ([], ["a"], ["a"])


def test_the_model_says_exactly_what_was_offered_last(db: FeedbackDatabase) -> None:
    offer_names(db, "a b", doubt="doubted")
    assert (answered(db, a=0.9, b=0.6, unknown=0.5), answered(db, b=0.7)) == (2, 1)
    set_guide(db, TASK, Guide(show_model=("uncertain",)))
    (taken,) = take(db, TASK, REGION, "uncertain", "ann")
    assert taken.model_answer == ModelAnswer(example_id="b", model="ft:m", answer="No", probability=0.7)


def test_what_the_model_said_about_another_content_is_forgotten(db: FeedbackDatabase) -> None:
    offer_names(db, "a", doubt="doubted")
    answered(db, a=0.9)
    offer_names(db, "a", doubt="doubted", content="other")
    assert [taken.model_answer for taken in take(db, TASK, REGION, "doubtful", "ann")] == [None]


def test_a_model_differs_from_a_label_in_meaning_not_in_spelling(db: FeedbackDatabase) -> None:
    words = [
        item("a", kind="text", options=(), label="Two  Words"),
        item("b", kind="number", options=(), label="$12.00"),
        item("d", kind="call", options=(), label='{"name": "judge", "arguments": {"a": 1, "b": "X"}}'),
    ]
    offer_items(db, *words, item("c", label=None))
    said = {"a": "two words", "b": "12", "c": "No", "d": '{"arguments":{"b":"X","a":1},"name":"judge"}'}
    offer_answers(db, TASK, REGION, [ModelAnswer(example_id=k, model="m", answer=v) for k, v in said.items()])
    assert names(db, "disagreement") == []


def test_a_held_out_example_is_contested_by_whichever_candidate_denies_its_label(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d", split="test")
    said = {"a": ("Yes", "Yes", "No"), "b": ("Yes", "No", "Yes"), "c": ("No", "Yes", "Yes"), "d": ("Yes", "Yes", "Yes")}
    made = [
        ModelAnswer(example_id=name, model="m", answer=own, base_answer=base, champion_answer=champion)
        for name, (own, base, champion) in said.items()
    ]
    offer_answers(db, TASK, REGION, made)
    assert sorted(names(db, "contested")) == ["a", "b", "c"]
    assert names(db, "disagreement") == []


def test_an_example_that_is_held_out_from_now_on_is_judged_anew_and_blind(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "correct", "a", "No")
    offer_names(db, "a", split="test")
    assert decisions(db, TASK, REGION) == []
    offer_names(db, "a")
    assert [d.answer for d in decisions(db, TASK, REGION)] == ["No"]


def test_what_is_said_of_some_splits_leaves_the_others_alone(db: FeedbackDatabase) -> None:
    offer_items(db, item("a"), item("b", split="test"))
    answered(db, a=0.9, b=0.8)
    assert offer_answers(db, TASK, REGION, [ModelAnswer(example_id="a", model="m")], HELD_OUT) == 0
    assert (names(db, "disagreement"), names(db, "contested")) == (["a"], [])
