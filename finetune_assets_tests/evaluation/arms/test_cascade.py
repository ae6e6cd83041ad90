"""From which probability on the fine-tuned model answers by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.arms.cascade import ALL_OWN, split_point, to_arm, to_person
from finetune_assets.evaluation.arms.entry import sure_of
from finetune_assets.evaluation.deferral import NEVER
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.evaluation.scoring.binary import YES_NO
from finetune_assets.task.judging import Defer
from finetune_assets_tests.evaluation.arms.entries import entry
from finetune_assets_tests.evaluation.predictions import prediction

SCORING = scoring_of(YES_NO)


def test_nothing_is_handed_over_to_an_arm_that_is_never_better() -> None:
    own, other = np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    assert split_point(own, other, np.array([0.5, 0.6, 0.7])) == ALL_OWN


def test_everything_is_handed_over_to_an_arm_that_is_always_better() -> None:
    assert split_point(np.zeros(3), np.ones(3), np.array([0.5, 0.6, 0.7])) == NEVER


def test_the_unsure_half_is_handed_over_where_the_other_arm_has_that_right() -> None:
    own, other = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])
    assert split_point(own, other, np.array([0.5, 0.6, 0.7, 0.9])) == 0.7


scored = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0]), st.sampled_from([-1.0, 0.5, 0.7, 0.9])),
    min_size=1,
    max_size=30,
)


@given(scored)
def test_no_other_threshold_does_better_on_the_split_that_it_is_chosen_on(rows: list[tuple[float, ...]]) -> None:
    own, other, sure = np.array(rows).T

    def mean(least: float) -> float:
        return float(np.where(sure >= least, own, other).mean())

    chosen = split_point(own, other, sure)
    assert all(mean(chosen) >= mean(least) - 1e-12 for least in (ALL_OWN, *sure, NEVER))


def test_the_threshold_does_not_depend_on_the_test_split() -> None:
    own, other = entry("tuned", 0.7), entry("frontier", 0.9, seed=5)
    wrong = [replace(row, predicted="No" if row.truth == "Yes" else "Yes") for row in own.test]
    usual, spoiled = (to_arm("c", one, other, SCORING, YES_NO) for one in (own, replace(own, test=wrong)))
    assert usual.least == spoiled.least


def test_who_waits_for_both_waits_for_the_sum() -> None:
    own, other = entry("tuned", 0.5), entry("frontier", 0.99, seed=5)
    made = to_arm("c", own, other, SCORING, YES_NO)
    at = int(np.flatnonzero(made.handed)[0])
    waited = [one.test[at].latency_s for one in (own, other)]
    assert made.entry.test[at].latency_s == sum(each for each in waited if each is not None)
    assert made.entry.test[at].predicted == other.test[at].predicted


def test_a_person_answers_what_is_not_promised() -> None:
    own = entry("tuned", 0.95, 400)
    made = to_person("c", own, Defer(target_accuracy=0.9), SCORING, YES_NO)
    sure = sure_of(own.test, YES_NO, None)
    assert (made.handed == (sure < made.least)).all()
    assert len(made.entry.test) == int((~made.handed).sum())


def test_an_answer_that_cannot_be_read_is_as_unsure_as_can_be() -> None:
    rows = [prediction("Yes", None, p_positive=0.9), prediction("No", "No", p_positive=0.2), prediction("No", "No")]
    assert sure_of(rows, YES_NO, None).tolist() == [-1.0, 0.8, -1.0]
