"""Events are added and never changed; what does not fit is refused, and leaves nothing behind."""

from __future__ import annotations

import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import decisions
from finetune_assets.feedback.store.events import (
    AnswerError,
    ContentChangedError,
    KeyUsedError,
    PartyError,
    UndoError,
    UnknownExampleError,
    history,
    latest,
    record,
)
from finetune_assets.feedback.store.queues import LEASE_SECONDS, take
from finetune_assets_tests.feedback.store.builders import (
    NOON,
    REGION,
    TASK,
    does,
    event,
    item,
    offer_items,
    offer_names,
)


def test_an_event_is_read_back_as_it_was_stored(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    shown = {"queue": "audit", "model_answer": "No", "probability": 0.75, "content": "c-a"}
    new = event("ann", "correct", "a", "No", comment="Zelle gebrochen \u2013 links", shown=shown, seconds=2.5)
    stored = record(db, new, NOON)
    assert history(db, TASK, REGION, "a") == [stored]
    assert (stored.number, stored.at, stored.content, stored.shown, stored.comment) == (
        1,
        NOON,
        "c-a",
        shown | {"blind": False},
        new.comment,
    )


def test_an_event_that_is_sent_twice_happened_once(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    sent = event("ann", "accept", "a", "Yes")
    assert record(db, sent, NOON) == record(db, sent, NOON + 60)
    assert len(history(db, TASK, REGION, "a")) == 1


def test_a_key_of_another_event_is_refused(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    key = does(db, "ann", "accept", "a", "Yes").key
    with pytest.raises(KeyUsedError, match="event 1"):
        does(db, "ann", "accept", "b", "Yes", key=key)


@pytest.mark.parametrize("changes", [{"task": "other"}, {"region": "other"}, {"example_id": "other"}])
def test_feedback_on_what_was_never_offered_is_refused(db: FeedbackDatabase, changes: dict[str, str]) -> None:
    offer_names(db, "a")
    with pytest.raises(UnknownExampleError, match="other"):
        record(db, event("ann", "reject", **{"example_id": "a"} | changes))


@pytest.mark.parametrize(
    ("kind", "answer", "says"),
    [
        ("correct", "Maybe", "one of Yes, No, got 'Maybe'"),
        ("accept", None, "answer must be given"),
        ("reject", "Yes", "answer must be left out"),
        ("skip", "Yes", "answer must be left out"),
        ("comment", None, "comment must not be empty"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(db: FeedbackDatabase, kind: str, answer: str | None, says: str) -> None:
    offer_names(db, "a")
    with pytest.raises(AnswerError, match=f"{kind} of cells/mono/a: .*{says}"):
        does(db, "ann", kind, "a", answer)  # pyright: ignore[reportArgumentType]
    assert history(db, TASK, REGION, "a") == []


def test_a_number_is_asked_for_where_answers_are_numbers(db: FeedbackDatabase) -> None:
    offer_items(db, item("a", kind="number", options=(), label="12.5"))
    with pytest.raises(AnswerError, match="must be a number, got 'much'"):
        does(db, "ann", "correct", "a", "much")
    assert does(db, "ann", "correct", "a", "Price is $13").answer == "Price is $13"


def test_what_has_changed_since_it_was_shown_is_refused(db: FeedbackDatabase) -> None:
    offer_names(db, "a", content="new")
    with pytest.raises(ContentChangedError, match="cells/mono/a has changed"):
        does(db, "ann", "accept", "a", "Yes", shown={"content": "old"})


def test_an_answer_that_comes_late_is_a_second_judgement(db: FeedbackDatabase) -> None:
    offer_names(db, "a", doubt="doubted")
    take(db, TASK, REGION, "doubtful", "ann", now=NOON)
    take(db, TASK, REGION, "doubtful", "bob", now=NOON + LEASE_SECONDS)
    does(db, "ann", "accept", "a", "Yes", now=NOON + LEASE_SECONDS + 1)
    assert [t.item.example_id for t in take(db, TASK, REGION, "second_opinion", "bob", now=NOON + LEASE_SECONDS + 2)]
    does(db, "bob", "accept", "a", "Yes", now=NOON + LEASE_SECONDS + 3)
    assert [(d.answer, d.n_judgements) for d in decisions(db, TASK, REGION)] == [("Yes", 2)]


def test_who_has_judged_an_example_does_not_decide_about_it(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "accept", "a", "Yes")
    does(db, "bob", "correct", "a", "No")
    with pytest.raises(PartyError, match="another adjudicator decides"):
        does(db, "bob", "adjudicate", "a", "No")


def test_a_judgement_can_be_commented_while_another_reviewer_has_the_example(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    take(db, TASK, REGION, "audit", "bob", now=NOON)
    assert does(db, "ann", "comment", "a", comment="look at the edge", now=NOON)


def test_a_judgement_gives_the_example_back(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    take(db, TASK, REGION, "doubtful", "ann", now=NOON)
    does(db, "ann", "accept", "a", "Yes", now=NOON)
    assert [taken.item.example_id for taken in take(db, TASK, REGION, "second_opinion", "bob", now=NOON)] == ["a"]


def test_what_is_undone_no_longer_counts_and_is_still_there(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    first = does(db, "ann", "accept", "a", "Yes")
    second = does(db, "ann", "correct", "a", "No")
    does(db, "ann", "undo", "a", undoes=second.number)
    assert [d.answer for d in decisions(db, TASK, REGION)] == ["Yes"], "the one before stands again"
    does(db, "ann", "undo", "a", undoes=first.number)
    assert decisions(db, TASK, REGION) == []
    assert [e.kind for e in history(db, TASK, REGION, "a")] == ["accept", "correct", "undo", "undo"]


def test_each_undo_goes_one_further_back(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    numbers = [does(db, "ann", "accept", name, "Yes").number for name in "ab"]
    does(db, "bob", "accept", "a", "Yes")
    for number in reversed(numbers):
        last = latest(db, "ann", TASK, REGION)
        assert last is not None
        assert last.number == number
        does(db, "ann", "undo", last.example_id, undoes=number)
    assert latest(db, "ann", TASK, REGION) is None


def test_the_latest_event_may_be_asked_for_in_one_region_only(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    offer_names(db, "b", region="poly")
    here = does(db, "ann", "accept", "a", "Yes")
    there = does(db, "ann", "accept", "b", "Yes", region="poly")
    assert (latest(db, "ann", TASK, REGION), latest(db, "ann"), latest(db, "ann", "other")) == (here, there, None)


def test_only_ones_own_events_are_undone_and_only_once(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    number = does(db, "ann", "accept", "a", "Yes").number
    with pytest.raises(UndoError, match="event 1 is ann's"):
        does(db, "bob", "undo", "a", undoes=number)
    with pytest.raises(UndoError, match="cells/mono/b has no event 1"):
        does(db, "ann", "undo", "b", undoes=number)
    undo = does(db, "ann", "undo", "a", undoes=number)
    with pytest.raises(UndoError, match="event 1 is undone already"):
        does(db, "ann", "undo", "a", undoes=number)
    with pytest.raises(UndoError, match="has no event 2"):
        does(db, "ann", "undo", "a", undoes=undo.number)
    with pytest.raises(UndoError, match="only an undo"):
        does(db, "ann", "accept", "a", "Yes", undoes=number)
