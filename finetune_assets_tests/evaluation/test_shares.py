"""Wilson's interval against scipy's, Tango's against the test that it inverts, and both by simulation."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as asymptotic_mcnemar

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.shares import accuracy_interval, paired_share_interval, score, tango, wilson
from finetune_assets.evaluation.statistics import Interval, paired_bootstrap

counts = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60)).map(lambda c: (c[0], c[1], sum(c)))


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_equals_scipys(count: int, n: int) -> None:
    count = min(count, n)
    reference = scipy.stats.binomtest(count, n).proportion_ci(method="wilson")
    ours = wilson(count, n)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_accuracy_of_examples_in_groups_is_less_certain_than_of_independent_ones() -> None:
    correct = np.repeat(np.random.default_rng(6).random(40) < 0.8, 5)
    alone, grouped = accuracy_interval(correct), accuracy_interval(correct, groups=np.repeat(np.arange(40), 5))
    assert alone == wilson(int(correct.sum()), 200)
    assert grouped.estimate == alone.estimate
    assert grouped.high - grouped.low > 1.7 * (alone.high - alone.low)


@pytest.mark.parametrize("n", range(1, 60))
def test_wilsons_interval_holds_its_share_at_every_count(n: int) -> None:
    for count in range(n + 1):
        share = wilson(count, n)
        assert 0 <= share.low <= share.estimate <= share.high <= 1


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


def test_with_many_groups_it_is_the_bootstraps_by_group() -> None:
    rng = np.random.default_rng(2)
    a, b = np.repeat(rng.random((2, 400)) < [[0.6], [0.7]], 3, axis=1) ^ (rng.random((2, 1200)) < 0.1)
    groups = np.repeat(np.arange(400), 3)
    ours, resampled = paired_share_interval(a, b, groups), paired_bootstrap(a, b, groups)
    assert (ours.low, ours.high) == pytest.approx((resampled.low, resampled.high), abs=0.004)


def test_copies_within_a_group_add_no_certainty() -> None:
    a, b = np.random.default_rng(3).random((2, 80)) < [[0.6], [0.8]]
    once = paired_share_interval(a, b, np.arange(80))
    copied = paired_share_interval(np.repeat(a, 5), np.repeat(b, 5), np.repeat(np.arange(80), 5))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=0.006)


def test_groups_in_which_the_models_never_differ_count_once_each() -> None:
    right = np.ones(60)
    in_groups, alone = (paired_share_interval(right, right, groups) for groups in (np.arange(60) // 6, np.arange(60)))
    assert in_groups.high > 5 * alone.high


@pytest.mark.parametrize(("n_groups", "size"), [(60, 1), (8, 10), (30, 3)])
def test_it_holds_the_truth_in_95_percent_of_few_groups_too(n_groups: int, size: int) -> None:
    rng = np.random.default_rng(n_groups)

    def draw(groups: int, each: int) -> tuple[np.ndarray, np.ndarray]:
        hardness = np.repeat(rng.normal(0, 0.7, groups), each) + rng.normal(0, 0.7, groups * each)
        a, b = (skill + rng.normal(0, 1, groups * each) > hardness for skill in (0.2, 0.9))
        return a, b

    many_a, many_b = draw(200_000, 1)
    truth, members = many_b.mean() - many_a.mean(), np.repeat(np.arange(n_groups), size)
    found = [paired_share_interval(*draw(n_groups, size), members) for _ in range(600)]
    assert 0.93 <= np.mean([interval.low <= truth <= interval.high for interval in found]) <= 0.975


def test_one_group_says_nothing_of_others() -> None:
    assert accuracy_interval([1, 0], groups=["panel", "panel"]) == Interval(0.5, 0.0, 1.0)
    assert paired_share_interval([1, 0], [1, 1], ["panel", "panel"]) == Interval(0.5, -1.0, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_two_groups_have_a_wide_interval_whatever_they_hold(rows: list[tuple[bool, bool, bool]]) -> None:
    a, b, groups = np.array([(*rows[0][:2], True), (*rows[1][:2], False), *rows]).T
    difference, share = paired_share_interval(a, b, groups), accuracy_interval(a, groups)
    assert -1 <= difference.low <= difference.estimate <= difference.high <= 1
    assert 0 <= share.low <= share.estimate <= share.high <= 1
    assert difference.high - difference.low > 0.5 and share.high - share.low > 0.5


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(EvaluationError, match="at least 1 example"):
        accuracy_interval([])
    with pytest.raises(EvaluationError, match="got 3 and 2"):
        paired_share_interval([1, 0, 1], [1, 1, 0], ["a", "b"])
