"""How many examples are needed: by hand, against Connor's formula, and by simulation of benchmarks of that size."""

import numpy as np
import pytest
from scipy.stats import norm

from finetune_assets.evaluation.sample_size import needed_examples
from finetune_assets.evaluation.statistics import mcnemar, paired_permutation


def answers(n: int, only_a: int, only_b: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether a and b are right on n examples, where only one of them is as often as given."""
    a, b = np.zeros((2, n), dtype=bool)
    a[:only_a], b[only_a : only_a + only_b] = True, True
    return a, b


def test_right_and_wrong_answers_need_connors_size() -> None:
    # 20 % differ, by 5 points: ((1.960 * sqrt(0.2) + 0.842 * sqrt(0.2 - 0.0025)) / 0.05)^2 = 625.6
    a, b = answers(200, 15, 25)
    connor = ((norm.ppf(0.975) * np.sqrt(0.2) + norm.ppf(0.8) * np.sqrt(0.1975)) / 0.05) ** 2
    assert connor == pytest.approx(625.6, abs=0.5)
    assert needed_examples(a, b, np.arange(200)) == 630


def test_scores_need_the_size_of_the_paired_test_of_means() -> None:
    rng = np.random.default_rng(1)
    difference = rng.normal(0, 1, 500)
    difference += 0.1 - difference.mean()
    usual = (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 * difference.var() / 0.1**2
    assert needed_examples(np.zeros(500), difference, np.arange(500)) == pytest.approx(usual, rel=0.05)


def test_examples_that_go_together_are_worth_less() -> None:
    a, b = answers(60, 5, 9)
    alone = needed_examples(a, b, np.arange(60)) or 0
    copied = needed_examples(np.repeat(a, 4), np.repeat(b, 4), np.repeat(np.arange(60), 4)) or 0
    assert copied == pytest.approx(4 * alone, rel=0.05)


def test_no_fewer_groups_are_asked_for_than_a_test_needs() -> None:
    assert needed_examples(np.zeros(20), np.ones(20), np.repeat(np.arange(4), 5)) == 30


def test_equal_models_have_no_size() -> None:
    assert needed_examples(*answers(50, 4, 4), np.arange(50)) is None


@pytest.mark.parametrize(("only_a", "only_b"), [(0.05, 0.12), (0.15, 0.25)])
def test_four_of_five_benchmarks_of_that_size_are_significant(only_a: float, only_b: float) -> None:
    n = needed_examples(*answers(100, round(100 * only_a), round(100 * only_b)), np.arange(100)) or 0
    rng = np.random.default_rng(2)
    u = rng.random((400, n))
    shown = [mcnemar(row < only_a, (row >= only_a) & (row < only_a + only_b)) < 0.05 for row in u]
    assert 0.7 <= np.mean(shown) <= 0.88


def test_four_of_five_benchmarks_in_groups_of_that_size_are_significant() -> None:
    rng = np.random.default_rng(3)

    def gains(n_groups: int) -> np.ndarray:
        return (rng.normal(0.1, 0.3, n_groups)[:, None] + rng.normal(0, 0.3, (n_groups, 4))).ravel()

    many = gains(5000)
    n = needed_examples(np.zeros(len(many)), many, np.repeat(np.arange(5000), 4)) or 0
    groups = np.repeat(np.arange(n // 4), 4)
    shown = [
        paired_permutation(np.zeros(len(groups)), gains(n // 4), groups, n_resamples=500) < 0.05 for _ in range(300)
    ]
    assert 0.7 <= np.mean(shown) <= 0.88
