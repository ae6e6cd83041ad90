"""Which arm a contest puts first, and what it says of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.arms.contest import Contest, hold
from finetune_assets.evaluation.arms.entry import Entrants, Entry, LeftOut, ordered
from finetune_assets.evaluation.prediction import read_predictions
from finetune_assets.evaluation.scoring.binary import YES_NO
from finetune_assets.evaluation.statistics import holm, paired_p_value
from finetune_assets.task.answers import Answer, ChoiceAnswer, NumberAnswer, ScoreAnswer, TextAnswer
from finetune_assets.task.arms import CascadeArm
from finetune_assets_tests.evaluation.arms.entries import FREE, entry, usd
from finetune_assets_tests.evaluation.predictions import choices, numbers, texts


def held(*entries: Entry, cascades: tuple[CascadeArm, ...] = (), left_out: tuple[LeftOut, ...] = ()) -> Contest:
    own = next((one for one in entries if one.name == "tuned"), entries[0])
    return hold(Entrants(entries, left_out), own, cascades, YES_NO)


def right(one: Entry) -> np.ndarray:
    return np.array([row.predicted == row.truth for row in one.test], dtype=float)


def test_arms_are_ranked_by_the_share_that_they_have_right() -> None:
    found = held(entry("base", 0.5), entry("tuned", 0.9, seed=2), entry("few_shot", 0.7, seed=3))
    assert [arm.name for arm in found.ranked] == ["tuned", "few_shot", "base"]
    assert found.advice.arm == "tuned" and found.n == 200


def test_every_two_arms_are_compared_and_p_is_raised_for_all_pairs() -> None:
    arms = [entry("a", 0.6), entry("b", 0.68, seed=2), entry("c", 0.75, seed=3), entry("d", 0.8, seed=4)]
    found = held(*arms)
    by_name = {one.name: right(one) for one in arms}
    groups = [row.group for row in arms[0].test]
    raw = [paired_p_value(by_name[pair.worse], by_name[pair.better], groups) for pair in found.pairs]
    assert len(raw) == 6
    assert [pair.p_value for pair in found.pairs] == pytest.approx(holm(raw).tolist())
    assert all(by_name[pair.better].mean() >= by_name[pair.worse].mean() for pair in found.pairs)


def test_what_is_not_shown_is_not_said() -> None:
    found = held(entry("tuned", 0.8), entry("few_shot", 0.79, seed=9))
    assert "is not shown to be better than" in found.advice.words and "may be chance" in found.advice.words
    assert "is shown to be better" not in found.advice.words
    assert "test examples show it (80 % of the time)" in found.advice.changes[0]


def test_the_sentence_on_what_flips_the_order_counts_the_answers_that_it_takes() -> None:
    tuned, base = entry("tuned", 0.9), entry("base", 0.5, seed=2)
    gap = int(right(tuned).sum() - right(base).sum())
    [change] = held(tuned, base).advice.changes
    assert f"{gap + 1} more right answers of 200" in change


def test_a_cheaper_arm_is_taken_where_it_is_shown_to_be_hardly_worse() -> None:
    cheap = entry("tuned", 0.9, 2000, price=usd(0.1))
    # The same answers but for one, so that the difference is known to be small.
    rows = list(cheap.test)
    at = next(k for k, row in enumerate(rows) if row.predicted != row.truth)
    rows[at] = replace(rows[at], predicted=rows[at].truth)
    dear = replace(cheap, name="frontier", test=rows, price=usd(9))
    found = held(cheap, dear)
    assert found.ranked[0].name == "frontier" and found.advice.arm == "tuned"
    assert "9.00 USD per 1,000 answers where tuned costs 0.10 USD" in found.advice.words


def test_a_cheaper_arm_is_not_taken_because_too_few_examples_show_no_difference() -> None:
    cheap, dear = entry("base", 0.8, 60, price=usd(0.1)), entry("frontier", 0.85, 60, seed=3, price=usd(9))
    found = held(cheap, dear)
    assert found.pairs[0].p_value > 0.05 and found.advice.arm == "frontier"


def test_an_unknown_price_is_no_price_of_nothing() -> None:
    found = held(entry("tuned", 0.9), entry("frontier", 0.95, seed=2, price=None))
    by_name = {arm.name: arm.usd_per_1000 for arm in found.ranked}
    assert by_name == {"frontier": None, "tuned": 0.0}


def test_arms_that_answered_other_examples_are_refused() -> None:
    short = entry("base", 0.5)
    with pytest.raises(EvaluationError, match="few was not asked the test examples that base was asked"):
        held(short, replace(short, name="few", test=short.test[1:]))


def test_a_cascade_to_an_arm_that_was_left_out_is_left_out_too() -> None:
    out = (LeftOut("frontier", "no key"),)
    found = held(entry("tuned", 0.9), entry("base", 0.5), cascades=(CascadeArm(to="frontier"),), left_out=out)
    assert [(one.name, one.why) for one in found.left_out] == [
        ("frontier", "no key"),
        ("cascade", "it goes to frontier, which was left out"),
    ]


def test_a_cascade_to_people_has_no_place_among_the_others() -> None:
    tuned = entry("tuned", 0.9, 400)
    found = held(tuned, entry("base", 0.5, 400, seed=2), cascades=(CascadeArm(target_accuracy=0.8),))
    [people] = found.with_people
    assert [arm.name for arm in found.ranked] == ["tuned", "base"]
    assert people.n + people.n_handed == 400 and people.n > 0
    assert "people" in found.advice.words


def of_kind(frame: pd.DataFrame, name: str) -> Entry:
    known = read_predictions(frame.assign(split="calibration"), "calibration", name)
    return Entry(name, name, name, ordered(read_predictions(frame, "test", name)), ordered(known), FREE)


@pytest.mark.parametrize(
    ("frame", "answer", "label"),
    [
        (choices(["a", "b", "c"]), ChoiceAnswer(kind="choice", options=["a", "b", "c"]), "Accuracy"),
        (choices(["a", "b", "c"]), ScoreAnswer(kind="score", levels=["a", "b", "c"]), "Quadratic agreement"),
        (numbers(), NumberAnswer(kind="number", template="${}"), "Answers within tolerance"),
        (texts(), TextAnswer(kind="text"), "Answers that hold the truth"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_answers_of_every_kind_have_their_contest(frame: pd.DataFrame, answer: Answer, label: str) -> None:
    base, tuned = of_kind(frame, "base"), of_kind(frame, "fine_tuned")
    cascades = [] if answer.kind == "number" else [CascadeArm(to="base")]
    found = hold(Entrants((base, tuned)), tuned, cascades, answer)
    assert found.label == label and len(found.ranked) == 2 + len(cascades)
    assert found.pairs[-1].worse == "base" and found.pairs[-1].outcome == "better"
    assert all((arm.calibration_error is None) == (answer.kind == "number") for arm in found.ranked)


def test_all_that_is_left_out_leaves_no_contest() -> None:
    with pytest.raises(EvaluationError, match="no arm answered"):
        hold(Entrants(), entry("tuned", 0.9), (), YES_NO)
