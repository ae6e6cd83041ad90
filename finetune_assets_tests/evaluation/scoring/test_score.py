"""Metrics of ordered levels against independent implementations and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.evaluation.scoring.score import quadratic_agreement
from finetune_assets.task.answers import ScoreAnswer

LEVELS = ["none", "mild", "severe", "worst"]
ANSWER = ScoreAnswer(kind="score", levels=LEVELS)


def row(truth: str, predicted: str | None) -> Prediction:
    return Prediction(
        example_id="e", split="test", role="fine_tuned", model="m", truth=truth, text=predicted, predicted=predicted,
        group="g", question="q",
    )  # fmt: skip


def test_agreement_falls_with_the_square_of_the_distance() -> None:
    found = scoring_of(ANSWER).score([row("none", said) for said in (*LEVELS, None)])
    assert quadratic_agreement(found).tolist() == pytest.approx([1, 1 - 1 / 9, 1 - 4 / 9, 0, 0])
    assert found.right.tolist() == [1, 0, 0, 0, 0]


def test_kappa_is_that_of_scikit_learn_on_every_resample() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 60)
    given = np.clip(truth + random.integers(-1, 2, 60), 0, 3)
    scoring = scoring_of(ANSWER)
    found = scoring.score([row(LEVELS[t], LEVELS[g]) for t, g in zip(truth, given, strict=True)])
    weights = random.multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    ours = scoring.metrics["quadratic_kappa"].resampled(found, weights)
    theirs = [cohen_kappa_score(truth, given, weights="quadratic", sample_weight=w) for w in weights]
    assert ours == pytest.approx(theirs)


def test_kappa_of_one_level_is_not_defined_and_unreadable_answers_have_no_place_in_it() -> None:
    scoring = scoring_of(ANSWER)
    kappa = scoring.metrics["quadratic_kappa"]
    same = scoring.score([row("mild", "mild")] * 3)
    assert np.isnan(kappa.resampled(same, np.ones((1, 3)))[0])
    some = scoring.score([row("none", "none"), row("worst", "worst"), row("mild", None)])
    assert kappa.resampled(some, np.ones((1, 3)))[0] == pytest.approx(1)


def test_words_that_are_no_levels_are_refused_and_far_mistakes_shown_first() -> None:
    scoring = scoring_of(ANSWER)
    with pytest.raises(EvaluationError, match="answers must be"):
        scoring.score([row("none", "awful")])
    order = sorted([row("none", said) for said in ("mild", None, "worst")], key=scoring.badness, reverse=True)
    assert [one.predicted for one in order] == ["worst", "mild", None]
