"""Tango's interval against the test that it inverts, by numbers of its own, and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as asymptotic_mcnemar

from finetune_assets.evaluation.paired_shares import paired_share_interval, score, tango
from finetune_assets.evaluation.statistics import paired_bootstrap

counts = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60)).map(lambda c: (c[0], c[1], sum(c)))


def score_by_search(only_a: int, only_b: int, n: int, difference: float) -> float:
    """The score statistic with its constrained share found by maximising the likelihood numerically."""
    both = n - only_a - only_b

    def unlikely(share: float) -> float:
        terms = ((only_a, share), (only_b, share + difference), (both, 1 - 2 * share - difference))
        return -sum(count * np.log(max(p, 1e-300)) for count, p in terms if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x  # type: ignore[attr-defined]
    return (only_b - only_a - n * difference) / np.sqrt(n * (2 * share + difference * (1 - difference)))


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(5, 12, 60), (0, 9, 40), (3, 3, 25), (17, 2, 150)])
@pytest.mark.parametrize("difference", [-0.3, -0.05, 0.02, 0.4])
def test_the_score_is_that_of_the_likeliest_shares(only_a: int, only_b: int, n: int, difference: float) -> None:
    expected = score_by_search(only_a, only_b, n, difference)
    assert score(only_a, only_b, n, difference) == pytest.approx(expected, rel=1e-4)


@given(counts)
def test_at_no_difference_it_is_mcnemars_test(found: tuple[int, int, int]) -> None:
    only_a, only_b, n = found
    interval = tango(only_a, only_b, n)
    rejected = False
    if only_a + only_b:
        table = [[n - only_a - only_b, only_a], [only_b, 0]]
        rejected = asymptotic_mcnemar(table, exact=False, correction=False).pvalue < 0.05  # type: ignore[attr-defined]
    assert (interval.low > 0 or interval.high < 0) == rejected


@given(counts)
def test_the_ends_are_where_the_score_reaches_its_quantile(found: tuple[int, int, int]) -> None:
    interval = tango(*found)
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    for end, sign in ((interval.low, 1), (interval.high, -1)):
        assert sign * score(*found, end) == pytest.approx(norm.ppf(0.975), abs=1e-6)


@given(counts)
@settings(max_examples=30)
def test_swapping_the_models_mirrors_it(found: tuple[int, int, int]) -> None:
    only_a, only_b, n = found
    there, back = tango(only_a, only_b, n), tango(only_b, only_a, n)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)


def test_models_that_agree_everywhere_may_still_differ_a_little() -> None:
    # n * d / (1 - d) = 1.96^2
    interval = tango(0, 0, 100)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0, -0.0370, 0.0370), abs=1e-4)


def test_models_that_differ_everywhere_reach_to_the_end() -> None:
    assert tango(0, 10, 10).high == 1
    assert tango(10, 0, 10).low == -1


def test_with_many_examples_it_is_the_bootstraps() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 1500)) < [[0.6], [0.7]]
    ours, resampled = paired_share_interval(a, b, np.arange(1500)), paired_bootstrap(a, b)
    assert (ours.low, ours.high) == pytest.approx((resampled.low, resampled.high), abs=0.002)


def test_examples_in_groups_are_resampled_by_group() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 60)) < 0.6
    groups = np.repeat(np.arange(30), 2)
    assert paired_share_interval(a, b, groups) == paired_bootstrap(a, b, groups)
