"""Whether probabilities are shown to be off: by simulation, and against statsmodels' own regression."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from finetune_assets.evaluation.calibration.recalibration import recalibrate


def forecast(rng: np.random.Generator, n: int, sure: float = 1, shift: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `sure` times as sure as they should be and shifted in log odds, and what happened."""
    true = expit(rng.normal(0.5, 1.3, n))
    return expit(sure * logit(true) + shift), (rng.random(n) < true).astype(float)


def test_a_model_2_5_times_too_sure_is_named_with_160_examples() -> None:
    rng, alone = np.random.default_rng(1), np.arange(160)
    found = [str(recalibrate(*forecast(rng, 160, sure=2.5), alone)) for _ in range(200)]
    assert np.mean(["too sure" in words for words in found]) >= 0.95


def test_a_perfect_forecast_is_called_off_in_about_5_percent() -> None:
    rng, alone = np.random.default_rng(2), np.arange(160)
    found = [recalibrate(*forecast(rng, 160), alone) for _ in range(400)]
    assert np.mean([one.is_off for one in found]) <= 0.08
    assert np.mean([one.spiegelhalter_p < 0.05 for one in found]) <= 0.08


def test_slope_and_intercept_are_the_regressions() -> None:
    p, y = forecast(np.random.default_rng(3), 500, sure=2)
    fitted = sm.Logit(y, sm.add_constant(logit(p))).fit(disp=False)
    found = recalibrate(p, y, np.arange(500))
    assert found.slope is not None
    low, high = fitted.conf_int()[1]
    assert (found.slope.estimate, found.slope.low, found.slope.high) == pytest.approx(
        (fitted.params[1], low, high), 1e-3
    )


@pytest.mark.parametrize(("shift", "words"), [(1.0, "too high"), (-1.0, "too low")])
def test_probabilities_that_are_shifted_are_said_to_be(shift: float, words: str) -> None:
    found = recalibrate(*forecast(np.random.default_rng(4), 400, shift=shift), np.arange(400))
    assert words in str(found)


def test_copies_within_a_group_add_no_certainty() -> None:
    p, y = forecast(np.random.default_rng(5), 100, sure=1.5)
    once = recalibrate(p, y, np.arange(100))
    copied = recalibrate(np.repeat(p, 5), np.repeat(y, 5), np.repeat(np.arange(100), 5))
    assert once.p_value is not None and copied.p_value == pytest.approx(once.p_value, rel=0.2)
    assert copied.spiegelhalter_p == pytest.approx(once.spiegelhalter_p, rel=0.2)


@pytest.mark.parametrize(
    ("p", "y"),
    [
        ([0.9] * 20, [1] * 20),
        ([0.5] * 20, [1, 0] * 10),
        ([0.1] * 10 + [0.9] * 10, [0] * 10 + [1] * 10),
        ([0.0, 1.0] * 10, [0, 1] * 10),
    ],
)
def test_where_there_is_no_slope_none_is_told(p: list[float], y: list[int]) -> None:
    found = recalibrate(p, y, np.arange(20))
    assert found.slope is None and found.p_value is None and "too few examples of one kind" in str(found)


def test_probabilities_that_are_all_but_one_number_have_no_slope() -> None:
    p = 0.25 + np.linspace(0, 1e-6, 40)
    found = recalibrate(p, np.arange(40) % 4 == 0, np.arange(40))
    assert found.slope is None and "probabilities too much alike" in str(found) and not found.is_off
