"""Answers without a person: the promise holds, and what cannot be promised is not."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from finetune_assets.evaluation.deferral import NEVER, Kept, choose, fewest, judge, unproved
from finetune_assets.task.judging import Defer

ASKED = Defer(target_accuracy=0.95)


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How sure answers are, whether they are right, and groups of one."""
    sure = expit(np.abs(rng.normal(0, 3, n)))
    return sure, (rng.random(n) < sure).astype(float), np.arange(n).astype(object)


def test_the_promise_holds_in_at_least_the_stated_share_of_draws_and_not_without_the_bound() -> None:
    many, right, _ = draw(np.random.default_rng(0), 200_000)

    def kept(threshold: float) -> bool:
        return not (many >= threshold).any() or right[many >= threshold].mean() >= ASKED.target_accuracy

    drawn = [draw(np.random.default_rng([1, k]), 300) for k in range(200)]
    assert np.mean([kept(choose(ASKED, *one)) for one in drawn]) >= 0.95
    assert np.mean([kept(unproved(ASKED, *one[:2])) for one in drawn]) < 0.8


@pytest.mark.parametrize("target", [0.9, 0.95, 0.98])
def test_the_fewest_examples_are_those_whose_exact_bound_reaches_the_target(target: float) -> None:
    n = fewest(Defer(target_accuracy=target))
    low = [binomtest(k, k, alternative="greater").proportion_ci(0.95).low for k in (n - 1, n)]
    assert low[0] < target <= low[1]


def test_too_few_examples_promise_nothing() -> None:
    n = fewest(ASKED) - 1
    assert choose(ASKED, np.full(n, 0.99), np.ones(n), np.arange(n).astype(object)) == NEVER
    found = judge(ASKED, (NEVER, NEVER), np.full(5, 0.99), np.ones(5), np.arange(5).astype(object))
    assert found.n_answered == 0 and not found.broken
    assert "all go to a person. At least 59 calibration examples are needed" in str(found)


def test_answers_of_one_group_count_as_so_many_fewer() -> None:
    sure, right, groups = draw(np.random.default_rng(3), 400)
    assert choose(ASKED, sure, right, groups) < NEVER
    assert choose(ASKED, sure, np.ones(400), np.repeat(np.arange(20), 20).astype(object)) == NEVER


def test_the_test_split_judges_the_promise() -> None:
    sure, right, groups = draw(np.random.default_rng(4), 500)
    least = choose(ASKED, sure, right, groups)
    kept = judge(ASKED, (least, 0.5), sure, right, groups)
    assert not kept.broken and "keeps the promise" in str(kept) and "by itself, the rest goes to a person" in str(kept)
    assert kept.share_unproved == 1.0 and kept.curve[-1] == (1.0, pytest.approx(right.mean()))
    broken = judge(ASKED, (least, 0.5), sure, np.where(np.arange(500) % 4 == 0, 0.0, right), groups)
    assert broken.broken and "which breaks the promise" in str(broken)


def test_a_promise_that_is_kept_in_use_is_seldom_called_broken_however_often_it_is_looked_at() -> None:
    asked, n_runs, n = Defer(target_accuracy=0.9), 200, 300
    rng = np.random.default_rng(0)
    broken = dict.fromkeys((0.9, 0.8), 0)
    for share in broken:
        right = (rng.uniform(size=(n_runs, n)) < share).cumsum(axis=1)
        looks = range(5, n + 1, 5)
        broken[share] = sum(any(Kept(asked, k, int(run[k - 1])).broken for k in looks) for run in right)
    assert broken[0.9] <= 0.05 * n_runs
    assert broken[0.8] >= 0.95 * n_runs


def test_the_evidence_against_a_promise_is_the_averaged_likelihood_over_that_at_the_promise() -> None:
    asked = Defer(target_accuracy=0.9)
    accuracies = (np.arange(100_000) + 0.5) / 100_000 * 0.9
    for n, right in ((20, 18), (20, 14), (40, 31), (40, 30), (60, 48)):
        likelihood = accuracies**right * (1 - accuracies) ** (n - right)
        evidence = likelihood.mean() / (0.9**right * 0.1 ** (n - right))
        assert Kept(asked, n, right).broken is bool(evidence >= 20), (n, right, evidence)
    assert str(Kept(asked, 0, 0)) == "reviewers have checked none of its answers yet"
    assert not Kept(asked, 10, 10).broken
