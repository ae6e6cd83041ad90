"""How good reviewers are: by gold questions, by each other, and by how long they look."""

from __future__ import annotations

import numpy as np
import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import decisions
from finetune_assets.feedback.store.events import AnswerError
from finetune_assets.feedback.store.gold import set_gold
from finetune_assets.feedback.store.guides import Guide, set_guide
from finetune_assets.feedback.store.quality import dawid_skene, quality
from finetune_assets.feedback.store.queues import take
from finetune_assets_tests.feedback.store.builders import NOON, REGION, TASK, does, event, offer_names


def test_dawid_and_skene_find_how_good_reviewers_are_that_were_drawn_so() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 2000)
    skill = {"ann": 0.95, "bob": 0.8, "cy": 0.6, "dee": 0.9}
    said = []
    for name, share in skill.items():
        right = rng.random(len(truth)) < share
        wrong = (truth + rng.integers(1, 3, len(truth))) % 3
        said += [(k, name, str(v)) for k, v in enumerate(np.where(right, truth, wrong))]
    found = dawid_skene(said)
    assert found == pytest.approx(skill, abs=0.03)


def test_nobody_has_a_quality_who_has_judged_nothing(db: FeedbackDatabase) -> None:
    assert quality(db, TASK) == [] and dawid_skene([]) == {}


def test_a_gold_question_comes_among_blind_ones_and_its_answer_measures_and_decides_nothing(
    db: FeedbackDatabase,
) -> None:
    offer_names(db, "a b c", doubt="doubted")
    set_guide(db, TASK, Guide(gold=0.5))
    for name in "ab":
        does(db, "ann", "accept", name, "Yes")
    set_gold(db, event("jo", "correct", "c", "No"))
    does(db, "bob", "skip", "a")
    taken = take(db, TASK, REGION, "second_opinion", "bob", n=3, now=NOON)
    assert "c" in [one.item.example_id for one in taken] and all(one.blind for one in taken)
    does(db, "bob", "correct", "c", "Yes", shown={"queue": "second_opinion"}, seconds=4.0)
    assert "c" not in [d.example_id for d in decisions(db, TASK, REGION)]
    found = {one.reviewer: (one.n, one.n_gold, one.n_gold_right) for one in quality(db, TASK)}
    assert found == {"ann": (2, 0, 0), "bob": (1, 1, 0)}


def test_held_out_examples_are_no_gold_questions(db: FeedbackDatabase) -> None:
    offer_names(db, "a", split="test")
    with pytest.raises(AnswerError, match="held out"):
        set_gold(db, event("jo", "correct", "a", "Yes"))


def test_a_reviewer_who_answers_in_less_than_a_second_is_named(db: FeedbackDatabase) -> None:
    names = [f"e{k}" for k in range(12)]
    offer_names(db, " ".join(names))
    for name in names:
        does(db, "ann", "accept", name, "Yes", seconds=0.2)
        does(db, "bob", "accept", name, "Yes", seconds=3.0)
    assert {one.reviewer: one.too_fast for one in quality(db, TASK)} == {"ann": True, "bob": False}


def test_a_task_may_ask_for_more_judgements_and_what_was_decided_follows(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "correct", "a", "No")
    assert len(decisions(db, TASK, REGION)) == 1
    set_guide(db, TASK, Guide(judgements=2))
    assert decisions(db, TASK, REGION) == []
    does(db, "bob", "correct", "a", "No")
    assert [d.reviewers for d in decisions(db, TASK, REGION)] == [("ann", "bob")]
