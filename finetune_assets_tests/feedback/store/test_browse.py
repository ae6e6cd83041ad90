"""What everybody says about a region's examples, page by page."""

from __future__ import annotations

import pytest

from finetune_assets.feedback.store.browse import Wanted, browse, find_item
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import UnknownExampleError
from finetune_assets.feedback.store.offers import ModelAnswer, offer_answers
from finetune_assets.feedback.store.queues import counts, take
from finetune_assets_tests.feedback.store.builders import REGION, TASK, answered, does, item, offer_items, offer_names


def names(db: FeedbackDatabase, wanted: Wanted = "all", text: str = "") -> list[str]:
    return [row.item.example_id for row in browse(db, TASK, REGION, wanted, text).rows]


def test_a_row_holds_what_everybody_says(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    offer_answers(db, TASK, REGION, [ModelAnswer(example_id="a", model="ft:m", answer="No", base_answer="Yes")])
    does(db, "ann", "accept", answer="No")
    does(db, "ben", "correct", answer="Yes")
    does(db, "cem", "correct", answer="Yes")
    judged, untouched = browse(db, TASK, REGION).rows
    assert (judged.verdict, judged.answer, judged.reviewers) == ("answer", "Yes", ("ann", "ben", "cem"))
    assert judged.model_answer and (judged.model_answer.answer, judged.model_answer.base_answer) == ("No", "Yes")
    assert judged.item.label == "Yes"
    assert (untouched.verdict, untouched.model_answer, untouched.reviewers) == (None, None, ())


def test_conflict_and_rejection_are_verdicts(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    does(db, "ann", "accept", "a", "Yes")
    does(db, "ben", "reject", "a")
    does(db, "ann", "reject", "b")
    assert [(row.verdict, row.answer) for row in browse(db, TASK, REGION).rows] == [
        ("conflict", None),
        ("reject", None),
    ]


def test_what_was_decided_about_another_content_is_not_told(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "accept", "a", "Yes")
    offer_names(db, "a", content="other")
    (row,) = browse(db, TASK, REGION).rows
    assert (row.verdict, row.answer, row.reviewers) == (None, None, ())


def test_the_model_is_wrong_by_people_and_else_by_the_label(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d e")  # labelled Yes; the model says No
    answered(db, a=0.9, b=0.8, c=0.7, d=0.6)
    does(db, "ann", "correct", "b", "No")
    does(db, "ann", "correct", "c", "Yes")
    does(db, "ann", "reject", "d")
    assert names(db, "model_wrong") == ["a", "c"]


def test_an_answer_that_could_not_be_read_is_wrong(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    offer_answers(db, TASK, REGION, [ModelAnswer(example_id="a", model="ft:m")])
    assert names(db, "model_wrong") == ["a"]


def test_models_disagree_with_each_other_or_with_the_label(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c")
    said = [("a", "Yes", "No"), ("b", "No", "No"), ("c", "Yes", "Yes")]
    answers = [ModelAnswer(example_id=name, model="m", answer=own, base_answer=base) for name, own, base in said]
    offer_answers(db, TASK, REGION, answers)
    assert names(db, "disagreement") == ["a", "b"]


def test_reviewed_and_undecided(db: FeedbackDatabase) -> None:
    offer_items(db, item("a", doubt="unsure"), item("b", doubt="unsure"), item("c"), item("d"))
    does(db, "ann", "accept", "a", "Yes")
    for reviewer, answer in (("ann", "Yes"), ("ben", "No")):
        does(db, reviewer, "accept", "c", answer)
    assert names(db, "reviewed") == ["a", "c"]
    assert names(db, "undecided") == ["b", "c"]


@pytest.mark.parametrize(
    ("text", "found"), [("A", ["a_1"]), ("_", ["a_1"]), ("%", []), ("defective", ["a_1", "b2"]), ("no", ["b2"])]
)
def test_text_is_found_as_it_is_written(db: FeedbackDatabase, text: str, found: list[str]) -> None:
    offer_items(db, item("a_1", question="Is it defective"), item("b2", label="No", question="Is it defective"))
    assert names(db, "all", text) == found


def test_pages_follow_each_other_and_withdrawn_examples_are_on_none(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d e gone")
    offer_names(db, "a b c d e")
    pages = [browse(db, TASK, REGION, offset=offset, limit=2) for offset in (0, 2, 4)]
    assert [[row.item.example_id for row in page.rows] for page in pages] == [["a", "b"], ["c", "d"], ["e"]]
    assert {page.total for page in pages} == {5}


def test_an_item_is_found_by_its_id(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    assert find_item(db, TASK, REGION, "a") == (item("a"), None)
    with pytest.raises(UnknownExampleError, match="cells/mono/z was never offered"):
        find_item(db, TASK, REGION, "z")


def test_every_queue_is_counted_for_its_reviewer(db: FeedbackDatabase) -> None:
    offer_items(db, item("a", doubt="unsure"), item("b", doubt="unsure"), item("c"))
    answered(db, a=0.9, c=0.6)
    does(db, "ann", "accept", "a", "Yes")
    take(db, TASK, REGION, "doubtful", "ben")
    none = {"audit": 0, "contested": 0, "second_opinion": 0, "conflicts": 0, "in_use": 0}
    assert counts(db, TASK, REGION, "ann") == {"doubtful": 1, "uncertain": 1, "disagreement": 1} | none
    assert counts(db, TASK, REGION, "ben")["second_opinion"] == 1
