"""Thresholds chosen on one split and judged on another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.operating_point import choose, judge
from finetune_assets.evaluation.shares import wilson
from finetune_assets.task.judging import MistakeCosts, OperatingPoint

P = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
Y = np.array([0, 0, 1, 0, 1, 0, 1, 1], dtype=float)
ALONE = np.arange(8).astype(object)


@pytest.mark.parametrize(
    ("point", "threshold"),
    [
        (None, 0.5),
        # Three of four positives are at 0.6 and above, all four at 0.3 and above.
        (OperatingPoint(sensitivity=0.75), 0.5),
        (OperatingPoint(sensitivity=0.9), 0.25),
        # Of those at 0.8 and above all are positive, of those at 0.6 and above three of four.
        (OperatingPoint(precision=0.9), 0.75),
        (OperatingPoint(precision=0.75), 0.5),
        (OperatingPoint(costs=MistakeCosts(missed=10, false_alarm=1)), 0.25),
        (OperatingPoint(costs=MistakeCosts(missed=1, false_alarm=10)), 0.75),
    ],
)
def test_the_threshold_is_the_one_that_was_asked_for(point: OperatingPoint | None, threshold: float) -> None:
    assert choose(point, P, Y) == pytest.approx(threshold)


pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50)


@given(pairs, st.floats(0.05, 0.99))
def test_the_sensitivity_is_reached_on_the_split_that_chose(rows: list[tuple[float, bool]], target: float) -> None:
    p, y = np.array(rows, dtype=float).T
    called = p >= choose(OperatingPoint(sensitivity=target), p, y)
    assert (called & (y == 1)).sum() >= target * y.sum()


def test_the_report_counts_what_is_missed_with_its_intervals() -> None:
    found = judge(0.5, P, Y, ALONE, prevalence=0.01)
    assert (found.n_positive, found.n_missed, found.n_false_alarms) == (4, 1, 1)
    assert found.sensitivity == found.ppv == wilson(3, 4)
    assert found.ppv_there is not None
    # 0.75 * 0.01 / (0.75 * 0.01 + 0.25 * 0.99)
    assert found.ppv_there.estimate == pytest.approx(0.0294, abs=1e-4)
    assert found.ppv_there.low < found.ppv_there.estimate < found.ppv_there.high
    assert "misses 1 of 4 positive examples" in str(found) and "where 1 % are positive" in str(found)


def test_what_the_test_split_shows_not_to_hold_is_said() -> None:
    p, y = np.repeat([0.2, 0.9], 50), np.ones(100)
    found = judge(0.5, p, y, np.arange(100).astype(object))
    said = found.misses(OperatingPoint(sensitivity=0.95))
    assert said is not None and "the sensitivity of 95 % does not hold" in said
    assert found.misses(OperatingPoint(sensitivity=0.5)) is None
    assert found.specificity is None and "one answer only" in str(found)
