"""What a policy asks of a region's newest model, on reports of real comparisons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.report import BenchmarkReport, Forgetting
from finetune_assets.evaluation.calibration import judge_probabilities
from finetune_assets.evaluation.promotion_policy import Counted, Reason, gain_p, judge, raised
from finetune_assets.evaluation.statistics import Interval
from finetune_assets.task.judging import Promotion
from finetune_assets_tests.evaluation.predictions import predictions, role

SURE, TRUE = np.full(200, 0.99), np.arange(200) % 2
HARMLESS = judge_probabilities(SURE, np.full(200, 0.5), TRUE)
HARMFUL = judge_probabilities(np.full(200, 0.5), SURE, TRUE)
ONCE = Counted()


def report(champion: float | None = None, **changes: Any) -> BenchmarkReport:
    """The report of a model that is right in 90 of 100, on 400 examples, where its base is in 50."""
    frame = predictions(n=400, base=0.5, fine_tuned=0.9)
    if champion is not None:
        truth = (frame.loc[frame["role"] == "base", "truth"] == "Yes").to_numpy()
        frame = pd.concat([frame, role("champion", truth, champion, seed=5)], ignore_index=True)
    return compare(frame.assign(**changes))


def objections(benchmark: BenchmarkReport, counted: Counted = ONCE, **policy: Any) -> list[Reason]:
    reasons = judge(Promotion(**policy), benchmark, HARMLESS, counted, limits=(0.05, 0.1))
    return [reason for reason in reasons if not reason.good]


def test_a_model_with_a_clear_gain_is_promoted_and_every_question_has_its_numbers() -> None:
    reasons = judge(Promotion(), report(champion=0.7), HARMLESS, ONCE)
    assert all(reason.good for reason in reasons)
    assert [reason.question for reason in reasons] == [
        "Does it answer?",
        "Is it better than its base model?",
        "Is it better than one answer to everything?",
        "Does it keep what the best champion reached?",
        "Do its probabilities mean something?",
    ]
    assert "points" in reasons[1].words and "attempt 1 in one of 1 region" in reasons[1].words


def test_an_equal_successor_has_to_be_shown_to_be_hardly_worse() -> None:
    [objection] = objections(report(champion=0.9))
    assert "not shown to be at most 2 points worse" in objection.words
    assert "of an equal model about" in objection.words
    assert objections(report(champion=0.9), margin=0.2) == []


def test_a_gain_that_is_found_at_the_twentieth_attempt_or_in_one_of_twenty_regions_is_none() -> None:
    lucky = replace(report(), p_value=0.01, baseline_p=1e-9)
    assert objections(lucky) == []
    [twentieth] = objections(lucky, Counted(attempt=20))
    [among] = objections(lucky, Counted(others=(1.0,) * 19))
    assert "as attempt 20" in twentieth.words and "in one of 20 regions" in among.words


def test_the_chances_of_all_attempts_add_up_to_the_level() -> None:
    assert sum(0.05 / (raised(1e-9, k) / 1e-9) for k in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)


def test_a_model_worse_than_a_constant_gains_nothing() -> None:
    always = compare(predictions(n=400, base=0.1, fine_tuned=0.5))
    assert gain_p(always, []) == 1.0
    assert any("one answer to everything" in objection.words for objection in objections(always))


def test_a_subgroup_that_falls_is_an_objection_unless_the_policy_says_otherwise() -> None:
    frame = predictions(n=400, base=0.5, fine_tuned=0.95)
    rare = frame["example_id"] < "cell0060"
    truth, is_base = frame["truth"], frame["role"] == "base"
    frame["predicted"] = np.where(rare & is_base, truth, frame["predicted"])
    wrong = np.where(truth == "Yes", "No", "Yes")
    frame["predicted"] = np.where(rare & ~is_base & (frame.index % 2 == 0), wrong, frame["predicted"])
    found = compare(frame.assign(subgroup=np.where(rare, "rare", "usual")))
    [objection] = objections(found)
    assert "it is worse in rare (than the base model" in objection.words
    assert objections(found, subgroups=False) == []


def test_what_was_forgotten_is_an_objection_unless_the_policy_says_otherwise() -> None:
    lost = Forgetting("general questions", 100, 0.9, 0.7, Interval(-0.2, -0.3, -0.1), 0.001, "worse")
    found = replace(report(), elsewhere=(lost,))
    [objection] = objections(found)
    assert "it has forgotten general questions (-20.0 points" in objection.words
    assert objections(found, forgetting=False) == []


def test_a_model_that_refuses_its_mistakes_is_not_promoted() -> None:
    frame = predictions(n=400, base=0.5, fine_tuned=0.85)
    mistakes = (frame["role"] == "fine_tuned") & (frame["predicted"] != frame["truth"])
    frame.loc[mistakes, "predicted"] = None
    refusing = compare(frame.assign(error=["HTTP 400" if one else None for one in mistakes]))
    assert (refusing.fine_tuned.metrics["accuracy"] or 0) < 0.9
    [objection] = objections(refusing)
    assert f"{mistakes.sum()} of 400 requests failed" in objection.words


def test_a_harmful_calibrator_is_an_objection_and_checks_that_are_off_ask_nothing() -> None:
    [objection] = [one for one in judge(Promotion(), report(), HARMFUL, ONCE) if not one.good]
    assert "its calibrator makes it worse: Calibration raised the Brier score" in objection.words
    off = ["better_than_base", "calibration_helps", "answers_given", "nothing_forgotten"]
    assert len(judge(Promotion(), report(), HARMFUL, ONCE, ignored=off)) == 1
