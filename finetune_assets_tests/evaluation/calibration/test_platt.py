"""Platt scaling against scikit-learn and scipy."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.score_calibrator import FEW


def oversure(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are 2.5 times too large, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.3, 1.5, n)
    return expit(2.5 * logits), (rng.random(n) < expit(logits)).astype(int)


class Logit(ClassifierMixin, BaseEstimator):
    """A finished classifier whose decision is its input."""

    classes_ = np.array([0, 1])

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Logit":
        del x, y
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] > 0).astype(int)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def test_platt_equals_scikit_learns_sigmoid_calibration() -> None:
    p, y = oversure(1, 120)
    reference = CalibratedClassifierCV(FrozenEstimator(Logit()), method="sigmoid")
    reference.fit(logit(p)[:, None], y)
    grid = np.linspace(0.01, 0.99, 50)
    ours = PlattCalibrator.fit(p, y, model="ft:m").apply(grid)
    assert ours == pytest.approx(reference.predict_proba(logit(grid)[:, None])[:, 1], abs=1e-4)


def test_platt_minimises_the_cross_entropy_to_platts_targets() -> None:
    p, y = oversure(2, 80)
    x, n_positive = logit(p), y.sum()
    target = np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (80 - n_positive + 2))

    def cross_entropy(parameters: np.ndarray) -> float:
        z = parameters[0] * x + parameters[1]
        return -(target * log_expit(z) + (1 - target) * log_expit(-z)).sum()

    calibrator = PlattCalibrator.fit(p, y, model="ft:m")
    assert (calibrator.slope, calibrator.intercept) == pytest.approx(minimize(cross_entropy, [1, 0]).x, abs=1e-3)


def test_oversure_probabilities_are_pulled_back_by_what_they_are_too_sure() -> None:
    p, y = oversure(3, 5000)
    assert PlattCalibrator.fit(p, y, model="ft:m").slope == pytest.approx(1 / 2.5, abs=0.03)


def test_certain_probabilities_and_separated_classes_give_finite_ones() -> None:
    calibrator = PlattCalibrator.fit([0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], model="ft:m")
    # The fit goes through Platt's targets (3 + 1) / (3 + 2) and 1 / (3 + 2).
    assert calibrator.apply([0, 1]) == pytest.approx([0.2, 0.8], abs=1e-3)


@pytest.mark.parametrize(("right", "share"), [(0, 1 / 9), (7, 8 / 9)])
def test_answers_that_are_all_right_or_all_wrong_give_their_smoothed_share_and_say_so(right: int, share: float) -> None:
    calibrator = PlattCalibrator.fit(np.linspace(0, 1, 7), [float(bool(right))] * 7, model="ft:m", kind="choice")
    assert calibrator.apply([0.01, 0.99]) == pytest.approx([share] * 2)
    assert f"do not tell apart the {right} right of 7 examples" in (calibrator.warning or "")


def test_a_falling_fit_is_reported_and_replaced_by_the_share_of_positives() -> None:
    p, y = oversure(4, 100)
    calibrator = PlattCalibrator.fit(1 - p, y, model="ft:m")
    assert calibrator.slope == 0
    assert f"do not tell apart the {y.sum()} positive of 100 examples" in (calibrator.warning or "")
    assert calibrator.apply([0.01, 0.99]) == pytest.approx([(y.sum() + 1) / 102] * 2)


def test_few_examples_are_said_to_be_few() -> None:
    few, enough = (PlattCalibrator.fit(*oversure(16, n), model="ft:m").warning for n in (FEW - 1, FEW))
    assert (few, enough) == ("fitted on 49 examples only: enlarge the calibration split", None)


def test_equal_probabilities_become_the_share_of_positives() -> None:
    calibrator = PlattCalibrator.fit([0.9] * 40, [1] * 10 + [0] * 30, model="ft:m")
    assert calibrator.apply([0.9]) == pytest.approx([0.25], abs=0.02)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40).filter(
        lambda d: len({y for _, y in d}) == 2
    )
)
@settings(max_examples=50, deadline=None)
def test_calibration_never_reorders(pairs: list[tuple[float, bool]]) -> None:
    p, y = np.array(pairs, dtype=float).T
    calibrated = PlattCalibrator.fit(p, y, model="ft:m").apply(np.sort(p))
    assert np.all(np.diff(calibrated) >= 0)
    assert np.all((calibrated >= 0) & (calibrated <= 1))


def test_a_calibrator_survives_json() -> None:
    calibrator = PlattCalibrator.fit(*oversure(5, 60), model="ft:m")
    assert PlattCalibrator.from_dict(json.loads(json.dumps(calibrator.to_dict()))) == calibrator


def test_the_fingerprint_is_that_of_the_data() -> None:
    p, y = oversure(6, 60)
    fitted, again = (PlattCalibrator.fit(p, y, model=name).fingerprint for name in ("ft:a", "ft:b"))
    assert fitted == again
    assert PlattCalibrator.fit(p, 1 - y, model="ft:a").fingerprint != fitted


def test_probabilities_of_another_model_are_refused() -> None:
    calibrator = PlattCalibrator.fit(*oversure(7, 60), model="ft:a")
    assert len(calibrator.apply([0.5], model="ft:a")) == 1
    with pytest.raises(EvaluationError, match="'ft:a' and says nothing about those of 'ft:b'"):
        calibrator.apply([0.5], model="ft:b")


@pytest.mark.parametrize("change", [{"method": "isotonic"}, {"slope": None}, {"curve": [1]}])
def test_json_of_something_else_is_refused(change: dict) -> None:
    data = PlattCalibrator.fit(*oversure(8, 60), model="ft:a").to_dict() | change
    kept = {key: value for key, value in data.items() if value is not None or key == "warning"}
    with pytest.raises(EvaluationError, match="expected a platt calibrator"):
        PlattCalibrator.from_dict(kept)
