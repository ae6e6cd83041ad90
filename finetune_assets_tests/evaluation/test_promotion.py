"""Which model answers for a region."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.promotion import Champion, Standing, consider, roll_back
from finetune_assets.evaluation.promotion_policy import Reason

WORSE = Reason("Is it better?", False, "it is worse")


def model(name: str, **changes: Any) -> Champion:
    found = Champion(
        model=name,
        provider="local",
        base_model="base",
        job_id=f"job of {name}",
        calibrator={"slope": 1.0},
        task_fingerprint="f",
        metric="accuracy",
        value=0.8,
        n_test=100,
        since="2026-11-22T10:00:00+00:00",
        way="checks",
    )
    return replace(found, **changes)


def champions(*names: str) -> Standing:
    standing = Standing()
    for name in names:
        standing = consider(standing, model(name), [], needs_approval=False)
    return standing


def test_a_model_without_objections_becomes_the_champion_and_the_one_before_stays_in_the_history() -> None:
    standing = champions("first", "second")
    assert standing.champion == model("second")
    assert [entry.model for entry in standing.history] == ["first", "second"]
    assert standing.candidate is None


def test_a_model_with_objections_is_a_candidate_and_the_champion_stays() -> None:
    standing = consider(champions("first"), model("second"), [WORSE], needs_approval=False)
    assert standing.champion == model("first")
    assert (standing.candidate, standing.objections) == ("second", ("it is worse",))


def test_a_person_approves_where_the_task_asks_for_it() -> None:
    waiting = consider(champions("first"), model("second"), [], needs_approval=True)
    assert (waiting.champion, waiting.objections) == (model("first"), ("a person has to approve it",))
    approved = consider(waiting, model("second"), [], needs_approval=True, approved_by="Anna")
    assert approved.champion == model("second", way="approval", approved_by="Anna")


def test_a_person_cannot_approve_what_the_checks_object_to() -> None:
    refused = consider(champions("first"), model("second"), [WORSE], needs_approval=True, approved_by="Anna")
    assert refused.champion == model("first")


def test_looking_again_at_the_champion_changes_nothing() -> None:
    standing = champions("first")
    assert consider(standing, model("first"), [], needs_approval=True) == standing
    assert standing.judged == ("first",)


def test_every_model_that_was_judged_is_an_attempt() -> None:
    standing = consider(champions("first"), model("second"), [WORSE], needs_approval=False)
    assert [standing.attempt(name) for name in ("first", "second", "third")] == [1, 2, 3]
    old = replace(standing, judged=())
    assert [old.attempt(name) for name in ("first", "third")] == [1, 2]


def test_a_champion_that_did_less_than_the_best_is_not_what_its_successors_are_held_against() -> None:
    standing = consider(champions("first"), model("second", best=False), [], needs_approval=False)
    assert standing.champion == model("second", best=False)
    assert standing.best == model("first")
    assert consider(standing, model("third"), [], needs_approval=False).best == model("third")


def test_a_new_calibrator_of_the_champion_is_taken_over_without_asking_again() -> None:
    approved = consider(Standing(), model("first"), [], needs_approval=True, approved_by="Anna")
    again = consider(approved, model("first", calibrator={"slope": 2.0}), [], needs_approval=True)
    assert again.champion == model("first", calibrator={"slope": 2.0}, way="approval", approved_by="Anna")
    assert len(again.history) == 2


def test_there_is_a_way_back_and_the_next_run_does_not_undo_it() -> None:
    back = roll_back(champions("first", "second"), "first", "2026-11-23T10:00:00+00:00", "Anna")
    assert back.champion == model("first", since="2026-11-23T10:00:00+00:00", way="rollback", approved_by="Anna")
    assert [entry.model for entry in back.history] == ["first", "second", "first"]
    again = consider(back, model("second"), [], needs_approval=False)
    assert again.champion == back.champion and "only a person's approval" in again.objections[0]
    approved = consider(again, model("second"), [], needs_approval=False, approved_by="Ben")
    assert approved.champion == model("second", way="approval", approved_by="Ben")


@pytest.mark.parametrize("name", ["never", "second"])
def test_there_is_no_way_back_to_what_was_no_earlier_champion(name: str) -> None:
    with pytest.raises(EvaluationError, match=f"'{name}' was no earlier champion .*: first"):
        roll_back(champions("first", "second"), name, "2026-11-23T10:00:00+00:00", "")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.sampled_from(["", "Anna"]))))
def test_the_history_only_grows_and_survives_json(steps: list[tuple[str, bool, bool, str]]) -> None:
    standing = Standing()
    for name, objected, needs_approval, by in steps:
        after = consider(
            standing, model(name), [WORSE] if objected else [], needs_approval=needs_approval, approved_by=by
        )
        assert after.history[: len(standing.history)] == standing.history
        assert Standing.from_dict(after.to_dict()) == after
        if needs_approval and not by:
            assert after.champion == standing.champion
        standing = after
