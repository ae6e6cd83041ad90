"""Numbers far outside the others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.outliers import MIN_NUMBERS, Limits, limits

PRICES = np.exp(np.random.default_rng(0).normal(4, 0.8, 2_000))


def test_prices_that_spread_by_factors_are_usual_and_wild_ones_are_not() -> None:
    usual = limits(np.append(PRICES, [1e7, 1e-4]))
    assert all(usual.fault(price) is None for price in PRICES)
    assert "10000000" in (usual.fault(1e7) or "").replace("1e+07", "10000000")
    assert usual.fault(1e-4)


def test_the_limits_are_five_robust_deviations_of_the_logarithm() -> None:
    # ln x is 0, ±1, ±2 in equal parts: the median distance on either side, zero included, is 1.
    values = np.exp(np.repeat([-2.0, -1.0, 0.0, 1.0, 2.0], 20))
    found = limits(values)
    assert found.median == pytest.approx(1)
    assert math.log(found.high) == pytest.approx(5 * 1.4826)
    assert math.log(found.low) == pytest.approx(-5 * 1.4826)


def test_a_third_of_wild_numbers_moves_the_limits_little() -> None:
    wild = np.append(PRICES, np.full(len(PRICES) // 4, 1e9))
    assert limits(wild).fault(1e9)


def test_temperatures_below_zero_are_compared_by_their_differences() -> None:
    values = np.random.default_rng(0).normal(-5, 10, 1_000)
    found = limits(values)
    assert found.fault(-20) is None
    assert found.fault(500)


def test_evenly_spread_prices_have_few_outliers() -> None:
    values = np.random.default_rng(0).uniform(1, 1_000, 10_000)
    found = limits(values)
    assert sum(found.fault(value) is not None for value in values) < 50


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=MIN_NUMBERS - 1))
def test_a_few_numbers_have_no_limits(values: list[float]) -> None:
    assert limits(np.array(values)) == Limits() or math.isnan(limits(np.array(values)).median)


def test_where_most_are_equal_nothing_is_an_outlier() -> None:
    assert limits(np.array([20.0] * 90 + [1.0, 500.0] * 5)).fault(500.0) is None
