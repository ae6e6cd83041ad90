"""Questions asked in use: people answer what the model left to them, and check some of its own answers, blind."""

from __future__ import annotations

import pytest

from finetune_assets.feedback.store import in_use
from finetune_assets.feedback.store.browse import browse
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import decisions, newest_event, regions_with_feedback
from finetune_assets.feedback.store.events import AnswerError
from finetune_assets.feedback.store.gold import set_gold
from finetune_assets.feedback.store.in_use import Checked, TooManyWaitError, checked, decision_on, item_id
from finetune_assets.feedback.store.offers import ModelAnswer
from finetune_assets.feedback.store.queues import counts, open_example, take
from finetune_assets.feedback.store.reviewers import Reviewer
from finetune_assets_tests.feedback.store.builders import (
    REGION,
    TASK,
    does,
    event,
    item,
    judges_blind,
    offer_names,
)


def ask(db: FeedbackDatabase, content: str, answer: str = "Yes", *, given: bool = False, model: str = "ft:m") -> str:
    """Lay a question of this content before people; return its item's name."""
    name = item_id(content)
    question = item(name, content=content, split="in_use", label=None, label_value=None)
    said = ModelAnswer(example_id=name, model=model, answer=answer, probability=0.6)
    in_use.lay_before_people(db, question, said, given=given)
    return name


def test_what_is_asked_in_use_waits_in_a_queue_of_its_own_and_shows_nothing_of_the_model(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    first, second = ask(db, "one"), ask(db, "two", given=True)
    taken = take(db, TASK, REGION, "in_use", "ann")
    assert [one.item.example_id for one in taken] == [first, second], "the oldest first, whether it was given or not"
    assert all(one.blind and one.model_answer is None and one.item.label is None for one in taken)
    others = {queue: n for queue, n in counts(db, TASK, REGION, "ann").items() if n and queue != "in_use"}
    assert not others, "no other queue holds it"


def test_a_run_of_the_pipeline_does_not_withdraw_it(db: FeedbackDatabase) -> None:
    ask(db, "one")
    offer_names(db, "a b")
    assert counts(db, TASK, REGION, "ann")["in_use"] == 1


def test_the_same_question_is_asked_once_and_answered_for_whoever_asks_again(db: FeedbackDatabase) -> None:
    name = ask(db, "one")
    assert decision_on(db, TASK, REGION, "one") is None
    judges_blind(db, "ann", name, "No", queue="in_use")
    ask(db, "one", "No")
    assert counts(db, TASK, REGION, "bob")["in_use"] == 0
    decided = decision_on(db, TASK, REGION, "one")
    assert decided is not None and (decided.answer, decided.reviewers, decided.blind) == ("No", ("ann",), True)


def test_it_is_no_example_of_the_region(db: FeedbackDatabase) -> None:
    judges_blind(db, "ann", ask(db, "one"), "No", queue="in_use")
    assert decisions(db, TASK, REGION) == [] and newest_event(db, TASK, REGION) == 0
    assert regions_with_feedback(db, TASK) == {}


def test_answers_given_without_a_person_are_checked_where_people_judged_them_blind(db: FeedbackDatabase) -> None:
    for name, truth in ((ask(db, "one", given=True), "Yes"), (ask(db, "two", given=True), "No")):
        judges_blind(db, "ann", name, truth, queue="in_use")
    judges_blind(db, "ann", ask(db, "left"), "No", queue="in_use")
    judges_blind(db, "ann", ask(db, "senseless", given=True), None, queue="in_use")
    judges_blind(db, "ann", ask(db, "of another", given=True, model="ft:old"), "No", queue="in_use")
    ask(db, "waits", given=True)
    seeing = ask(db, "seen", given=True)
    assert open_example(db, TASK, REGION, seeing, "eve") is not None
    browse(db, TASK, REGION, reader=Reviewer("eve", "admin"))
    does(db, "eve", "correct", seeing, "No", shown={"queue": "table"})
    assert decision_on(db, TASK, REGION, "seen") is not None, "an answer all the same"
    assert checked(db, TASK, REGION, "ft:m") == [Checked("Yes", "Yes"), Checked("Yes", "No")]


def test_a_reviewer_does_not_find_the_models_answer_in_the_table(db: FeedbackDatabase) -> None:
    ask(db, "one")
    [row] = browse(db, TASK, REGION, reader=Reviewer("ann", "reviewer")).rows
    assert row.model_answer is None
    with pytest.raises(AnswerError, match="cannot be a gold question"):
        set_gold(db, event("ann", "correct", item_id("one"), "Yes"))


def test_no_more_wait_than_anybody_answers(db: FeedbackDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_use, "MAX_OPEN", 2)
    name = ask(db, "one")
    ask(db, "two")
    with pytest.raises(TooManyWaitError, match=r"2 questions of cells/mono wait .* in_use\.review to false"):
        ask(db, "three")
    judges_blind(db, "ann", name, "No", queue="in_use")
    ask(db, "three")
