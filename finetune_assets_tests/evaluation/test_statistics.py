"""Intervals and tests against independent implementations, hand-made numbers and simulations."""

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.statistics import (
    FloatArray,
    Interval,
    bootstrap,
    holm,
    in_words,
    mcnemar,
    outcome,
    paired_bootstrap,
    paired_permutation,
    percentile_interval,
    signed,
    verdict,
)


def two_models(rng: np.random.Generator, n: int, only_a: float, only_b: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether a and b are correct on n examples, where only one of them is with the probabilities given."""
    u = rng.random(n)
    both_correct = u > 0.4 + only_a + only_b
    a_alone, b_alone = u < only_a, (u >= only_a) & (u < only_a + only_b)
    return both_correct | a_alone, both_correct | b_alone


def test_paired_interval_equals_scipys_bootstrap() -> None:
    a, b = two_models(np.random.default_rng(1), 400, 0.08, 0.2)
    ours = paired_bootstrap(a, b)
    scipys = scipy.stats.bootstrap(
        (b.astype(float) - a,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert ours.estimate == pytest.approx(b.mean() - a.mean())
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=0.006)


def test_few_examples_widen_the_interval_to_that_of_student() -> None:
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(40):
        values = rng.normal(size=8)
        ours = paired_bootstrap(np.zeros(8), values, n_resamples=4000)
        student = scipy.stats.t.interval(0.95, 7, values.mean(), values.std(ddof=1) / np.sqrt(8))
        ratios.append((ours.high - ours.low) / (student[1] - student[0]))
    assert np.mean(ratios) == pytest.approx(1, abs=0.07)


def test_copies_within_a_group_add_no_certainty() -> None:
    a, b = two_models(np.random.default_rng(3), 60, 0.1, 0.3)
    once = paired_bootstrap(a, b)
    copied = paired_bootstrap(np.repeat(a, 5), np.repeat(b, 5), groups=np.repeat(np.arange(60), 5))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert paired_bootstrap(np.repeat(a, 5), np.repeat(b, 5)).low > once.low


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_swapping_the_models_mirrors_interval_and_keeps_p(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T
    there, back = paired_bootstrap(a, b, n_resamples=500), paired_bootstrap(b, a, n_resamples=500)
    assert (there.estimate, there.low, there.high) == pytest.approx((-back.estimate, -back.high, -back.low))
    assert mcnemar(a, b) == pytest.approx(mcnemar(b, a))


def test_models_that_never_differ_have_no_difference_and_p_of_one() -> None:
    same = np.array([True, False, True])
    assert paired_bootstrap(same, same) == Interval(0, 0, 0)
    assert mcnemar(same, same) == 1


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = np.random.default_rng(4).random((2, 50))
    assert paired_bootstrap(a, b, seed=7) == paired_bootstrap(a, b, seed=7)
    assert paired_bootstrap(a, b, seed=7) != paired_bootstrap(a, b, seed=8)


def test_mcnemar_counts_half_of_what_was_found_among_the_discordant_examples() -> None:
    # a alone is right once, b alone nine times: p = 2 * (1 + 10 / 2) / 2^10
    a = np.array([True] * 5 + [True] + [False] * 9 + [False] * 3)
    b = np.array([True] * 5 + [False] + [True] * 9 + [False] * 3)
    assert mcnemar(a, b) == pytest.approx(12 / 1024)
    reference = scipy.stats.binomtest(1, 10).pvalue - scipy.stats.binom.pmf(1, 10, 0.5)
    assert mcnemar(a, b) == pytest.approx(reference)


def test_mcnemar_claims_a_difference_of_equal_models_in_at_most_5_percent() -> None:
    rng = np.random.default_rng(8)
    claimed = np.mean([mcnemar(*two_models(rng, 150, 0.1, 0.1)) < 0.05 for _ in range(2000)])
    assert 0.03 < claimed <= 0.055


@pytest.mark.parametrize("n_groups", [2, 3, 4])
def test_means_of_few_groups_claim_a_difference_in_about_5_percent(n_groups: int) -> None:
    rng, groups = np.random.default_rng(n_groups), np.repeat(np.arange(n_groups), 10)
    claimed = 0
    for _ in range(400):
        scores = np.repeat(rng.normal(0, 1, n_groups), 10) + rng.normal(0, 0.3, len(groups))
        found = paired_bootstrap(np.zeros(len(groups)), scores, groups, n_resamples=500)
        claimed += not found.low <= 0 <= found.high
    assert claimed / 400 <= 0.075


@pytest.mark.parametrize(
    ("interval", "p", "expected"),
    [
        (Interval(0.1, 0.02, 0.18), 0.01, "better"),
        (Interval(-0.1, -0.18, -0.02), 0.01, "worse"),
        (Interval(0.1, 0.02, 0.18), 0.06, "inconclusive"),
        (Interval(0.1, -0.01, 0.18), 0.01, "inconclusive"),
        (Interval(0.0, 0.0, 0.0), 1.0, "inconclusive"),
    ],
)
def test_better_or_worse_needs_both_interval_and_p(interval: Interval, p: float, expected: str) -> None:
    assert outcome(interval, p) == expected


def test_a_rise_is_worse_where_lower_is_better() -> None:
    rise = Interval(0.1, 0.02, 0.18)
    assert outcome(rise, 0.01, higher_is_better=False) == "worse"
    assert outcome(Interval(-0.1, -0.18, -0.02), 0.01, higher_is_better=False) == "better"


def test_words_follow_the_numbers() -> None:
    assert verdict("better", Interval(0.173, 0.091, 0.252), 0.00043) == (
        "The fine-tuned model is better: +17.3 points of accuracy (95 % interval +9.1 to +25.2, p = 0.00043)."
    )
    assert verdict("worse", Interval(-0.11, -0.2, -0.02), 0.012) == (
        "The fine-tuned model is worse: -11.0 points of accuracy (95 % interval -20.0 to -2.0, p = 0.012)."
    )
    assert verdict("inconclusive", Interval(0.012, -0.04, 0.065), 0.71, "token F1") == (
        "No significant gain or loss: +1.2 points of token F1 (95 % interval -4.0 to +6.5, p = 0.71)."
    )


@pytest.mark.parametrize("n", [4, 9, 13])
def test_the_permutation_test_of_few_pairs_tries_every_swap_as_scipy_does(n: int) -> None:
    a, b = np.random.default_rng(n).normal(size=(2, n))
    reference = scipy.stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
    )
    assert paired_permutation(a, b) == pytest.approx(reference.pvalue)


def test_the_permutation_test_of_many_pairs_comes_close_to_scipys() -> None:
    rng = np.random.default_rng(21)
    a = rng.normal(size=80)
    b = a + rng.normal(0.25, 1, 80)
    reference = scipy.stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    )
    assert paired_permutation(a, b) == pytest.approx(reference.pvalue, abs=0.012)


def test_copies_within_a_group_are_swapped_together() -> None:
    a, b = np.random.default_rng(22).normal(size=(2, 12))
    copied = paired_permutation(np.repeat(a, 5), np.repeat(b, 5), groups=np.repeat(np.arange(12), 5))
    assert copied == pytest.approx(paired_permutation(a, b))


def test_scores_that_never_differ_have_p_of_one_in_the_permutation_test() -> None:
    assert paired_permutation([0.5, 0.1], [0.5, 0.1]) == 1
    assert paired_permutation(np.ones(40), np.ones(40)) == 1


def test_the_permutation_test_keeps_its_level_with_skewed_errors_in_groups() -> None:
    rng = np.random.default_rng(23)
    groups = np.repeat(np.arange(25), 3)
    rejected = 0
    for _ in range(600):
        shared = np.repeat(np.exp(rng.normal(0, 1, 25)), 3)
        a, b = (shared * np.exp(rng.normal(0, 1, 75)) for _ in range(2))
        rejected += paired_permutation(a, b, groups, n_resamples=400) < 0.05
    assert rejected / 600 <= 0.07


@pytest.mark.parametrize("n", [1, 3, 12])
def test_holms_p_values_equal_statsmodels(n: int) -> None:
    p_values = np.random.default_rng(n).random(n).round(1) ** 3  # some of them equal
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holms_p_values_keep_their_order_and_only_rise(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert np.all(adjusted >= p_values) and np.all(adjusted <= 1)
    assert np.all(np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0)


def test_holms_p_values_by_hand() -> None:
    # 3 * 0.01, 2 * 0.02, 1 * 0.03 raised to the one before it
    assert holm([0.03, 0.01, 0.02]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    with pytest.raises(EvaluationError, match="between 0 and 1"):
        holm([0.01, float("nan")])


def test_holm_rarely_claims_a_gain_in_any_of_many_regions_without_one() -> None:
    p_values = np.random.default_rng(24).random((2000, 8))
    assert np.mean([holm(row).min() < 0.05 for row in p_values]) == pytest.approx(0.05, abs=0.015)
    assert np.mean((p_values < 0.05).any(axis=1)) > 0.3


def test_no_sign_stands_before_zero() -> None:
    assert [signed(-0.04), signed(0.04), signed(-1.26), signed(2)] == ["0.0", "0.0", "-1.3", "+2.0"]


def test_one_group_gives_no_interval() -> None:
    with pytest.raises(EvaluationError, match="at least 2 groups, got 1"):
        paired_bootstrap([1, 0], [1, 1], groups=["panel", "panel"])


def test_unpaired_lengths_are_refused() -> None:
    with pytest.raises(EvaluationError, match="got 2, 3 and 2"):
        paired_bootstrap([1, 0], [1, 1, 0])
    with pytest.raises(EvaluationError, match="got 2, 3 and 2"):
        paired_permutation([1, 0], [1, 1, 0])
    with pytest.raises(EvaluationError, match="got 2 and 3"):
        mcnemar([1, 0], [1, 1, 0])


def test_resamples_where_a_statistic_is_undefined_are_left_out() -> None:
    assert percentile_interval(0.5, np.array([np.nan, *np.linspace(0, 1, 1001)]), 1000).low == pytest.approx(
        0.025, abs=0.001
    )


def test_resamples_are_drawn_in_pieces_of_bounded_memory() -> None:
    sizes = []

    def count(weights: FloatArray) -> FloatArray:
        sizes.append(weights.size)
        return weights.sum(axis=1)

    drawn = bootstrap(count, np.arange(100_000), n_resamples=50)
    assert drawn.tolist() == [100_000] * 50
    assert max(sizes) <= 2**17


def test_ten_thousand_resamples_of_five_hundred_examples_take_under_a_second() -> None:
    a, b = two_models(np.random.default_rng(8), 500, 0.1, 0.2)
    started = time.process_time()
    paired_bootstrap(a, b)
    assert time.process_time() - started < 1


def test_ninety_five_percent_intervals_hold_the_truth_ninety_five_percent_of_the_time() -> None:
    rng = np.random.default_rng(9)
    intervals = [paired_bootstrap(*two_models(rng, 150, 0.08, 0.22), n_resamples=500) for _ in range(800)]
    covered = np.mean([interval.low <= 0.14 <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97


def test_intervals_by_group_hold_the_truth_where_examples_of_a_group_go_together() -> None:
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(50), 4)
    covered = []
    for _ in range(500):
        gain = np.repeat(rng.normal(0.1, 0.3, 50), 4) + rng.normal(0, 0.3, 200)
        interval = paired_bootstrap(np.zeros(200), gain, groups, n_resamples=500)
        covered.append(interval.low <= 0.1 <= interval.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_equal_models_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(11)
    outcomes = []
    for _ in range(1000):
        a, b = two_models(rng, 120, 0.15, 0.15)
        outcomes.append(outcome(paired_bootstrap(a, b, n_resamples=300), mcnemar(a, b)))
    assert 1 - outcomes.count("inconclusive") / 1000 <= 0.05


def test_large_numbers_are_written_without_an_exponent() -> None:
    assert [in_words(value) for value in (11895.0, -1115.12, 999.5, 0.123456)] == [
        "11,895",
        "-1,115",
        "999.5",
        "0.1235",
    ]
