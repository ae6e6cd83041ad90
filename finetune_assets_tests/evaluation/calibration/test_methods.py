"""Temperature, beta and isotonic calibration against scikit-learn, scipy and what the curves must be."""

import json

import numpy as np
import pytest
import sklearn.isotonic
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration.beta import BetaCalibrator
from finetune_assets.evaluation.calibration.choice import METHODS
from finetune_assets.evaluation.calibration.isotonic import IsotonicCalibrator
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.reliability import CLIP
from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator
from finetune_assets.evaluation.calibration.temperature import TemperatureCalibrator
from finetune_assets_tests.evaluation.calibration.test_platt import Logit, oversure

GRID = np.linspace(0.01, 0.99, 50)
methods = pytest.mark.parametrize("method", METHODS)
pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40)


def smoothed(y: np.ndarray) -> np.ndarray:
    """Platt's targets."""
    return np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / (len(y) - y.sum() + 2))


def minimised(features: np.ndarray, y: np.ndarray, start: list[float], lowest: list[float | None]) -> np.ndarray:
    """Coefficients of least cross-entropy to Platt's targets, none below its lowest value."""
    target = smoothed(y)

    def cross_entropy(coefficients: np.ndarray) -> float:
        z = features @ coefficients
        return -(target * log_expit(z) + (1 - target) * log_expit(-z)).sum()

    return minimize(cross_entropy, start, bounds=[(low, None) for low in lowest], options={"ftol": 1e-13}).x


def test_temperature_equals_scikit_learns_temperature_scaling() -> None:
    p, y = oversure(1, 4000)
    reference = CalibratedClassifierCV(FrozenEstimator(Logit()), method="temperature").fit(logit(p)[:, None], y)
    ours = TemperatureCalibrator.fit(p, y, model="ft:m").apply(GRID)
    # Theirs goes to the bare labels, ours to Platt's targets, which differ from them by 1 / 2000 here.
    assert ours == pytest.approx(reference.predict_proba(logit(GRID)[:, None])[:, 1], abs=2e-3)


def test_temperature_minimises_the_cross_entropy_and_leaves_one_half_alone() -> None:
    p, y = oversure(2, 80)
    calibrator = TemperatureCalibrator.fit(p, y, model="ft:m")
    assert calibrator.slope == pytest.approx(minimised(logit(p)[:, None], y, [1], [0]).item(), abs=1e-4)
    assert calibrator.apply([0.5]) == pytest.approx([0.5])


@pytest.mark.parametrize("seed", range(6))
def test_beta_is_the_best_curve_of_its_kind_that_does_not_fall(seed: int) -> None:
    p, y = oversure(seed, 60)
    p = np.clip(p**3, CLIP, 1 - CLIP)
    sides = np.column_stack([np.log(p), -np.log1p(-p), np.ones(60)])
    found = BetaCalibrator.fit(p, y, model="ft:m")
    assert [found.a, found.b, found.c] == pytest.approx(minimised(sides, y, [1, 1, 0], [0, 0, None]), abs=5e-3)


def test_beta_leaves_out_a_side_that_would_turn_the_ranking() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(3000)
    y = (rng.random(3000) < expit(0.5 * np.log(p) + 0.6)).astype(int)
    found = BetaCalibrator.fit(p, y, model="ft:m")
    assert (found.a, found.b) == (pytest.approx(0.5, abs=0.12), pytest.approx(0, abs=0.1))
    assert found.c == pytest.approx(0.6, abs=0.15)


def test_beta_mends_what_platt_cannot() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(0.5, 0.5, 6000)
    truth = expit(0.2 * np.log(p) - 2 * np.log1p(-p) - 1)
    y = (rng.random(6000) < truth).astype(int)
    beta, platt = (kind.fit(p, y, model="ft:m").apply(p) for kind in (BetaCalibrator, PlattCalibrator))
    assert np.abs(beta - truth).mean() < 0.01 < 0.02 < np.abs(platt - truth).mean()


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_isotonic_equals_scikit_learns_between_the_least_and_the_most_that_n_examples_can_show(
    data: list[tuple[float, bool]],
) -> None:
    p, y = np.array(data, dtype=float).T
    reference = sklearn.isotonic.IsotonicRegression(out_of_bounds="clip").fit(p, y)
    ours = IsotonicCalibrator.fit(p, y, model="ft:m").apply(p)
    nearest = 1 / (len(y) + 2)
    assert ours == pytest.approx(np.clip(reference.predict(p), nearest, 1 - nearest), abs=1e-9)


@methods
@given(pairs)
@settings(max_examples=40, deadline=None)
def test_no_method_reorders_or_leaves_0_to_1(method: type[ScoreCalibrator], data: list[tuple[float, bool]]) -> None:
    p, y = np.array(data, dtype=float).T
    calibrated = method.fit(p, y, model="ft:m").apply(np.sort(p))
    assert np.all(np.diff(calibrated) >= -1e-12)
    assert np.all((calibrated > 0) & (calibrated < 1))


@methods
def test_every_method_survives_json_and_refuses_another_model(method: type[ScoreCalibrator]) -> None:
    calibrator = method.fit(*oversure(5, 60), model="ft:a")
    again = method.from_dict(json.loads(json.dumps(calibrator.to_dict())))
    assert again == calibrator
    assert again.apply(GRID).tolist() == calibrator.apply(GRID).tolist()
    with pytest.raises(EvaluationError, match="'ft:a' and says nothing about those of 'ft:b'"):
        calibrator.apply([0.5], model="ft:b")


@methods
def test_scores_that_rank_the_wrong_way_round_are_made_one_probability(method: type[ScoreCalibrator]) -> None:
    p, y = oversure(6, 200)
    calibrator = method.fit(1 - p, y, model="ft:m")
    assert "do not tell apart" in (calibrator.warning or "")
    assert np.ptp(calibrator.apply(GRID)) == 0


@methods
@pytest.mark.parametrize("event", [0.0, 1.0])
def test_events_of_one_kind_only_make_a_finite_constant(method: type[ScoreCalibrator], event: float) -> None:
    calibrated = method.fit(np.linspace(0, 1, 30), [event] * 30, model="ft:m").apply([0.0, 0.4, 1.0])
    assert np.ptp(calibrated) == 0
    assert 0 < calibrated[0] < 1
