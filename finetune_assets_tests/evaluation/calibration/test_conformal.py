"""Split-conformal intervals: the quantile by hand, coverage by simulation, and what little data does."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator, judge_coverage
from finetune_assets.task.answers import NumberAnswer

ANSWER = NumberAnswer(kind="number")


def fitted(truth: np.ndarray, guess: np.ndarray, groups: np.ndarray | None = None) -> ConformalCalibrator:
    return ConformalCalibrator.fit(truth, guess, groups, answer=ANSWER, model="ft:a")


def prices(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """True numbers and guesses that are off by a factor, whatever the size."""
    guess = np.exp(rng.normal(4, 1, n))
    return guess * np.exp(rng.normal(0, 0.5, n)), guess


def lengths(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """True numbers and guesses that are off by the same amount at any size."""
    guess = rng.uniform(100, 1000, n)
    return guess + rng.normal(0, 20, n), guess


def test_reach_is_the_ceil_of_n_plus_one_times_the_level_th_smallest_residual() -> None:
    # n = 19: the ceil(20 * 0.9) = 18th of the residuals 1 to 19
    residuals = np.random.default_rng(1).permutation(np.arange(1.0, 20))
    calibrator = fitted(500 + residuals, np.full(19, 500.0))
    assert (calibrator.residual, calibrator.reach) == ("absolute", 18)
    assert np.array(calibrator.intervals([100.0])).ravel().tolist() == [82, 118]


def test_each_group_weighs_as_one_example() -> None:
    # Ten groups; one of them has a hundred examples of the largest residual and still only weighs 1 in 11.
    residuals = np.concatenate([np.arange(1.0, 10), np.full(100, 50.0)])
    groups = np.concatenate([np.arange(9), np.full(100, 9)])
    calibrator = fitted(residuals, np.zeros(109), groups)
    # ceil(11 * 0.9) = 10th group
    assert (calibrator.reach, calibrator.n, calibrator.n_groups) == (50, 109, 10)


def test_eight_examples_give_no_end_and_nine_do() -> None:
    eight, nine = (fitted(np.arange(float(n)), np.zeros(n)) for n in (8, 9))
    assert eight.reach is None
    assert eight.warning == "8 examples of the calibration split are too few, 9 are needed; the intervals have no end"
    assert np.array(eight.intervals([1.0])).ravel().tolist() == [-math.inf, math.inf]
    assert (nine.reach, nine.warning) == (8, None)


def test_intervals_keep_to_the_tasks_minimum_and_maximum() -> None:
    answer = NumberAnswer(kind="number", minimum=0, maximum=10)
    calibrator = ConformalCalibrator.fit(np.arange(9.0), np.zeros(9), answer=answer, model="ft:a")
    assert np.array(calibrator.intervals([5.0])).ravel().tolist() == [0, 10]


def test_residuals_are_measured_against_the_guess_where_they_grow_with_it() -> None:
    rng = np.random.default_rng(2)
    assert fitted(*prices(rng, 300)).residual == "relative"
    assert fitted(*lengths(rng, 300)).residual == "absolute"


def test_the_choice_is_made_on_other_examples_than_the_reach() -> None:
    truth, guess = prices(np.random.default_rng(3), 90)
    calibrator = fitted(truth, guess)
    assert (calibrator.n, calibrator.n_groups) == (90, 60)


@pytest.mark.parametrize("draw", [prices, lengths])
@pytest.mark.parametrize("n", [12, 40, 150])
def test_coverage_is_the_level_and_at_most_one_in_n_plus_one_more(draw, n: int) -> None:  # noqa: ANN001
    rng = np.random.default_rng(n)
    covered, used = [], 0
    for _ in range(500):
        truth, guess = draw(rng, n + 40)
        calibrator = fitted(truth[:n], guess[:n])
        low, high = calibrator.intervals(guess[n:])
        covered.append(np.mean((low <= truth[n:]) & (truth[n:] <= high)))
        used = calibrator.n_groups
    error = 3 * np.std(covered) / np.sqrt(500)
    assert 0.9 - error <= np.mean(covered) <= 0.9 + 1 / (used + 1) + error


def test_coverage_of_new_groups_is_the_level_where_examples_of_a_group_go_together() -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(400):
        sizes = rng.integers(1, 12, 45)
        groups = np.repeat(np.arange(45), sizes)
        # Large groups are off by more: pooled examples would not do.
        error = rng.normal(0, 1, 45)[groups] * sizes[groups]
        known = groups < 25
        calibrator = fitted(error[known], np.zeros(known.sum()), groups[known])
        new = [np.abs(error[groups == group][0]) <= (calibrator.reach or np.inf) for group in range(25, 45)]
        covered.append(np.mean(new))
    slack = 3 * np.std(covered) / np.sqrt(400)
    assert 0.9 - slack <= np.mean(covered) <= 0.9 + 1 / 26 + slack


def test_too_low_coverage_is_rarely_claimed_of_exchangeable_examples_and_always_of_others() -> None:
    rng = np.random.default_rng(6)
    false_alarms = 0
    for _ in range(400):
        truth, guess = lengths(rng, 130)
        report = judge_coverage(fitted(truth[:60], guess[:60]), truth[60:], guess[60:])
        false_alarms += report.outcome == "worse"
    assert false_alarms / 400 <= 0.045
    truth, guess = lengths(rng, 130)
    drifted = judge_coverage(fitted(truth[:60], guess[:60]), truth[60:] + 60, guess[60:])
    assert drifted.outcome == "worse"
    assert "fewer than they should" in drifted.verdict


def test_the_verdict_names_coverage_and_width() -> None:
    truth, guess = np.tile(np.arange(1.0, 21), 2), np.zeros(40)
    calibrator = ConformalCalibrator.fit(truth[:20], guess[:20], answer=ANSWER, model="ft:a")
    report = judge_coverage(calibrator, truth, guess)
    assert report.verdict.startswith("90 % intervals held 95.0 % of the true numbers (95 % interval 83.5 to 98.6), as")
    assert report.verdict.endswith("Their median width is 38.")


def test_intervals_without_end_are_said_to_be_none() -> None:
    report = judge_coverage(fitted(np.arange(5.0), np.zeros(5)), np.arange(5.0), np.zeros(5))
    assert (report.median_width, report.coverage.estimate) == (None, 1)
    assert report.verdict.startswith("There are no 90 % intervals: 5 examples")


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_intervals_hold_their_guess_and_the_share_of_the_examples_that_they_were_fitted_on(
    pairs: list[tuple[float, float]],
) -> None:
    truth, guess = np.array(pairs).T
    calibrator = fitted(truth, guess)
    low, high = calibrator.intervals(guess)
    assert np.all((low <= guess) & (guess <= high))


@pytest.mark.parametrize(
    ("truth", "guess", "message"),
    [
        ([1.0, np.nan], [1.0, 2.0], "1 of 2 numbers are missing"),
        ([1.0], [1.0, 2.0], "every guess needs one true number"),
        ([], [], "every guess needs one true number"),
    ],
)
def test_numbers_that_cannot_be_paired_are_refused(truth: list[float], guess: list[float], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        fitted(np.array(truth), np.array(guess))
