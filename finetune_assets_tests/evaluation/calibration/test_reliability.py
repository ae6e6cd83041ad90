"""Proper scores against scikit-learn, calibration error against hand-made numbers, a plain loop and simulations."""

from random import Random

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration.reliability import (
    CLIP,
    brier_score,
    calibration_error,
    log_loss,
    reliability_bins,
)

forecasts = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60)


def forecast(rng: np.random.Generator, n: int, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Claimed probabilities, labels and true probabilities; a slope of 1 is a perfect forecast, above it too sure."""
    logits = rng.normal(0.7, 2, n)
    true = expit(logits)
    return expit(slope * logits), (rng.random(n) < true).astype(float), true


@given(forecasts)
def test_brier_score_and_log_loss_equal_scikit_learns(pairs: list[tuple[float, bool]]) -> None:
    p, y = np.array(pairs, dtype=float).T
    assert brier_score(p, y) == pytest.approx(sklearn.metrics.brier_score_loss(y, p, pos_label=1))
    clipped = np.clip(p, CLIP, 1 - CLIP)
    assert log_loss(p, y) == pytest.approx(sklearn.metrics.log_loss(y, clipped, labels=[0, 1]))


def test_a_certain_mistake_costs_a_finite_log_loss() -> None:
    assert log_loss([0.0], [1]) == pytest.approx(-np.log(1e-6))


def test_calibration_error_of_one_bin_by_hand() -> None:
    # 20 times 0.5 with 15 positives: gap^2 = 0.0625, chance = 0.75 * 0.25 / 19
    error = calibration_error([0.5] * 20, [1] * 15 + [0] * 5)
    assert error.estimate == pytest.approx(np.sqrt(0.0625 - 0.1875 / 19))
    assert error.low < error.estimate < error.high


def test_calibration_error_equals_a_plain_loop_over_quantile_bins() -> None:
    p, y, _ = forecast(np.random.default_rng(1), 204, slope=3)
    square = 0.0
    for _, inside in pd.DataFrame({"p": p, "y": y}).groupby(pd.qcut(p, 10), observed=True):
        positive = inside.y.mean()
        square += (
            len(inside) / 204 * ((positive - inside.p.mean()) ** 2 - positive * (1 - positive) / (len(inside) - 1))
        )
    assert calibration_error(p, y).estimate == pytest.approx(np.sqrt(square))


def test_a_perfect_forecast_is_not_called_miscalibrated() -> None:
    rng = np.random.default_rng(2)
    errors = [calibration_error(*forecast(rng, 160)[:2]) for _ in range(200)]
    assert np.median([error.estimate for error in errors]) < 0.02
    assert np.mean([error.low == 0 for error in errors]) >= 0.93


@pytest.mark.parametrize("n", [100, 250])
def test_the_interval_holds_the_true_error_of_an_oversure_forecast(n: int) -> None:
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(150):
        p, y, true = forecast(rng, n, slope=2.5)
        # What the bins of p would show without the chance in the labels.
        expected = pd.DataFrame({"gap": true - p, "bin": pd.qcut(p, 10, labels=False)}).groupby("bin").gap
        truth = np.sqrt((expected.mean() ** 2 * expected.size()).sum() / n)
        error = calibration_error(p, y)
        covered.append(error.low <= truth <= error.high)
    assert np.mean(covered) >= 0.93


def test_the_interval_is_no_wider_than_the_estimates_scatter() -> None:
    rng = np.random.default_rng(5)
    errors = [calibration_error(*forecast(rng, 160, slope=2.5)[:2]) for _ in range(300)]
    low, high = np.quantile([error.estimate for error in errors], [0.025, 0.975])
    assert np.mean([error.high - error.low for error in errors]) <= 1.25 * (high - low)


def test_copies_within_a_group_leave_the_calibration_error_uncertain() -> None:
    p, y, _ = forecast(np.random.default_rng(4), 200, slope=2)
    groups = np.repeat(np.arange(200), 4)
    copied = calibration_error(np.repeat(p, 4), np.repeat(y, 4), groups)
    taken_as_new = calibration_error(np.repeat(p, 4), np.repeat(y, 4))
    assert copied.high - copied.low > 1.5 * (taken_as_new.high - taken_as_new.low)


@given(forecasts, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_does_not_matter(pairs: list[tuple[float, bool]], random: Random) -> None:
    shuffled = random.sample(pairs, len(pairs))
    bins, again = (reliability_bins(*np.array(some, dtype=float).T) for some in (pairs, shuffled))
    assert [b.n for b in bins] == [b.n for b in again]
    assert [b.n_positive for b in bins] == [b.n_positive for b in again]


@given(forecasts)
def test_bins_hold_every_example_once_in_rising_order(pairs: list[tuple[float, bool]]) -> None:
    p, y = np.array(pairs, dtype=float).T
    bins = reliability_bins(p, y)
    claimed = [b.mean_probability for b in bins]
    assert sum(b.n for b in bins) == len(p)
    assert sum(b.n_positive for b in bins) == y.sum()
    assert claimed == sorted(claimed)
    assert all(0 <= b.share_positive <= 1 for b in bins)


def test_bins_are_at_most_ten_of_about_equal_mass() -> None:
    p, y, _ = forecast(np.random.default_rng(5), 1000)
    assert [b.n for b in reliability_bins(p, y)] == [100] * 10
    assert len(reliability_bins(p[:25], y[:25])) == 2


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([0.2, np.nan, np.nan], [0, 1, 1], "2 of 3 probabilities are missing"),
        ([0.2, 1.5], [0, 1], "between 0 and 1, 1 of 2 do not"),
        ([0.2, 0.5], [0, 2], "labels must be 0 or 1, 1 of 2"),
        ([0.2, 0.5], [0, 1, 1], "every probability needs one label"),
        ([], [], "at least 1 probability"),
    ],
)
def test_what_cannot_be_scored_is_counted_in_the_error(p: list[float], y: list[int], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        brier_score(p, y)
