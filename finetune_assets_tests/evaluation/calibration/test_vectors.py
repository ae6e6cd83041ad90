"""Calibrators of whole vectors, and sets of levels, on vectors whose truth is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.answering import Rule
from finetune_assets.evaluation.calibration import ordinal_sets
from finetune_assets.evaluation.calibration.choice import METHODS
from finetune_assets.evaluation.calibration.vectors import OrdinalCalibrator, VectorTemperatureCalibrator
from finetune_assets.evaluation.registered import as_registered
from finetune_assets.server.calibration import Calibration

WORDS = ["none", "mild", "severe", "worst"]


def drawn(seed: int, n: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [n x 4] that are too sure by `sharpness`, and true words [n] drawn from what they should have said."""
    random = np.random.default_rng(seed)
    honest = random.dirichlet(np.full(len(WORDS), 0.7), size=n)
    truth = (honest.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    said = np.maximum(honest, 1e-12) ** sharpness
    return said / said.sum(axis=1, keepdims=True), truth


def ordered(seed: int, n: int, slope: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Levels by proportional odds: what the model says of being above each is moved by `slope` and `shift`."""
    random = np.random.default_rng(seed)
    place = random.normal(scale=2, size=(n, 1))
    odds = place - np.array([[-1.5, 0.0, 1.5]])
    truth = (random.random((n, 1)) < 1 / (1 + np.exp(-odds))).sum(axis=1)

    def levels(above: np.ndarray) -> np.ndarray:
        ends = np.column_stack([np.ones(n), 1 / (1 + np.exp(-above)), np.zeros(n)])
        return ends[:, :-1] - ends[:, 1:]

    # One uniform draw a row makes the level exactly the number of thresholds that are passed.
    return levels((odds - shift) / slope), truth


def test_a_temperature_undoes_what_made_the_vectors_too_sure() -> None:
    p, y = drawn(0, 4000, sharpness=2.5)
    fitted = VectorTemperatureCalibrator.fit(p, y, WORDS, model="m", kind="choice")
    assert 1 / fitted.slope == pytest.approx(2.5, rel=0.1)
    fresh, truth = drawn(1, 4000, sharpness=2.5)
    after = fitted.apply(fresh)
    assert after.sum(axis=1) == pytest.approx(np.ones(len(fresh)))
    assert (after.argmax(axis=1) == fresh.argmax(axis=1)).all()
    rows = np.arange(len(fresh))
    assert -np.log(after[rows, truth]).mean() < -np.log(np.maximum(fresh[rows, truth], 1e-12)).mean() - 0.1


def test_proportional_odds_are_found_again() -> None:
    p, y = ordered(2, 4000, slope=0.5, shift=0.8)
    fitted = OrdinalCalibrator.fit(p, y, WORDS, model="m", kind="score")
    assert (fitted.slope, fitted.intercept) == (pytest.approx(0.5, rel=0.15), pytest.approx(0.8, abs=0.2))


def test_sets_of_levels_are_neighbours_and_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for seed in range(20):
        p, y = ordered(100 + seed, 200, slope=0.6, shift=0.3)
        groups = np.arange(len(y)).astype(object)
        fitted = OrdinalCalibrator.fit(p, y, WORDS, model="m", kind="score")
        fitted = ordinal_sets.with_sets(fitted, p, y, groups)
        fresh, truth = ordered(200 + seed, 400, slope=0.6, shift=0.3)
        report = ordinal_sets.judge(fitted, fresh, truth, np.arange(400).astype(object))
        held.append(report.coverage.estimate)
        inside = ordinal_sets.sets(fitted, fresh)
        first, last = inside.argmax(axis=1), len(WORDS) - 1 - inside[:, ::-1].argmax(axis=1)
        assert (inside.sum(axis=1) == last - first + 1).all()
    assert np.mean(held) == pytest.approx(0.9, abs=0.03)


def test_too_few_examples_make_sets_of_all_levels() -> None:
    p, y = ordered(3, 5, slope=1, shift=0)
    fitted = OrdinalCalibrator.fit(p, y, WORDS, model="m", kind="score")
    fitted = ordinal_sets.with_sets(fitted, p, y, np.arange(5).astype(object))
    assert fitted.reach is None
    assert ordinal_sets.sets(fitted, p).all()
    assert "fitted on 5 examples only" in str(fitted.warning)


@pytest.mark.parametrize("kind", [VectorTemperatureCalibrator, OrdinalCalibrator])
def test_a_calibrator_of_words_survives_json_and_refuses_others(kind: Any) -> None:
    p, y = drawn(4, 60, sharpness=1)
    fitted = kind.fit(p, y, WORDS, model="ft:a", kind="choice")
    again = calibration.load(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    with pytest.raises(EvaluationError, match="fitted on answers of 'ft:a'"):
        fitted.apply(p, model="ft:b")
    for wrong in (p[:, :3], p[:0], p * np.nan):
        with pytest.raises(EvaluationError):
            fitted.apply(wrong)


Curve = st.sampled_from([*METHODS, VectorTemperatureCalibrator, OrdinalCalibrator])


@given(method=Curve, seed=st.integers(0, 50), share=st.floats(0, 1))
def test_a_server_applies_a_registered_calibrator_as_we_do(method: Any, seed: int, share: float) -> None:
    if method in METHODS:
        random = np.random.default_rng(seed)
        scores = random.random(80)
        fitted = method.fit(scores, (random.random(80) < scores).astype(float), model="m", kind="binary")
        options, p = ["Yes", "No"], [share, 1 - share]
        expected = fitted.apply([share])[0]
    else:
        vectors, y = drawn(seed, 80, sharpness=1.7)
        fitted = method.fit(vectors, y, WORDS, model="m", kind="choice")
        options, p = WORDS, vectors[int(share * 79)].tolist()
        expected = fitted.apply([p])[0]
    body = as_registered(fitted, Rule(), options, [{"role": "user", "text": "{question}"}])
    registered = Calibration.model_validate(json.loads(json.dumps(body)))
    found = registered.applied(options, p)
    assert found[0] == pytest.approx(expected, abs=1e-9) if method in METHODS else found == pytest.approx(expected)
    assert sum(found) == pytest.approx(1)
    turned = registered.applied(options[::-1], p[::-1])
    assert turned == pytest.approx(found[::-1])
