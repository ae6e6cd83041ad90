"""Metrics of numbers, by hand and against scikit-learn and scipy."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.scoring.number import METRICS, NumberScoring
from finetune_assets.task.answers import NumberAnswer
from finetune_assets_tests.evaluation.predictions import prediction

COURSE = NumberAnswer(kind="number", template="${}", tolerance=0.2, tolerance_absolute=40)
SHARE_ONLY = NumberAnswer(kind="number", tolerance=0.1)
Pair = tuple[float, float | None]
amount = st.floats(0, 1000).map(lambda value: round(value, 2))
pairs = st.lists(st.tuples(amount, amount), min_size=2, max_size=40)


def row(truth: float, guess: float | None):  # noqa: ANN201
    word = None if guess is None else f"${guess:.2f}"
    return prediction(f"${truth:.2f}", word, truth_value=truth, predicted_value=guess)


def metrics(rows: list[Pair], weights: list[int] | None = None, answer: NumberAnswer = COURSE) -> dict[str, float]:
    scored = NumberScoring(answer).score([row(*pair) for pair in rows])
    drawn = np.array([weights or [1] * len(rows)], dtype=float)
    return {name: metric.resampled(scored, drawn)[0] for name, metric in METRICS.items()}


def test_metrics_by_hand() -> None:
    # errors 10, 20 and 300
    found = metrics([(100, 110), (100, 80), (100, 400)], answer=SHARE_ONLY)
    assert found["within_tolerance"] == 0
    assert found["mae"] == pytest.approx((10 + 20 + 300) / 3)
    assert found["rmse"] == pytest.approx(np.sqrt((100 + 400 + 90_000) / 3))
    logs = [np.log(111 / 101), np.log(81 / 101), np.log(401 / 101)]
    assert found["rmsle"] == pytest.approx(np.sqrt(np.mean(np.square(logs))))
    assert found["outlier_share"] == 1 / 3


@given(pairs)
@settings(deadline=None)
def test_metrics_equal_scikit_learns_and_scipys(rows: list[Pair]) -> None:
    truth, guess = [true for true, _ in rows], [guess for _, guess in rows]
    found = metrics(rows)
    assert found["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(truth, guess))
    assert found["rmse"] == pytest.approx(sklearn.metrics.root_mean_squared_error(truth, guess))
    assert found["rmsle"] == pytest.approx(sklearn.metrics.root_mean_squared_log_error(truth, guess))
    if len(set(truth)) > 1 and len(set(guess)) > 1:
        assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(truth, guess)[0])  # pyright: ignore[reportArgumentType]
    else:
        assert np.isnan(found["spearman"])


@given(pairs, st.data())
@settings(deadline=None)
def test_a_weight_is_a_number_of_copies(rows: list[Pair], data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    repeated = [each for each, times in zip(rows, copies, strict=True) for _ in range(times)]
    if repeated:
        assert metrics(rows, copies) == pytest.approx(metrics(repeated), nan_ok=True)


@pytest.mark.parametrize(
    ("truth", "guess", "colour"),
    [
        (10.0, 49.99, "green"),  # off by less than 40
        (200.0, 160.0, "orange"),  # off by 40 and by a fifth: neither is less
        (1000.0, 801.0, "green"),  # off by less than a fifth
        (10.0, 89.99, "orange"),
        (10.0, 90.0, "red"),
        (1000.0, 601.0, "orange"),
        (1000.0, 600.0, "red"),
        (5.0, None, "red"),
    ],
)
def test_the_bands_are_those_of_the_course(truth: float, guess: float | None, colour: str) -> None:
    assert NumberScoring(COURSE).band(row(truth, guess)) == colour


@given(amount.filter(bool), amount)
def test_every_band_is_the_courses(truth: float, guess: float) -> None:
    error = abs(guess - truth)
    course = "green" if error < 40 or error / truth < 0.2 else "orange" if error < 80 or error / truth < 0.4 else "red"
    assert NumberScoring(COURSE).band(row(truth, guess)) == course


def test_the_very_number_is_right_even_at_zero() -> None:
    scoring = NumberScoring(SHARE_ONLY)
    assert [scoring.band(row(0.0, guess)) for guess in (0.0, 0.01)] == ["green", "red"]


def test_a_missing_number_is_wrong_even_where_the_truth_is_zero() -> None:
    found = metrics([(0.0, None), (1.0, 1.0)])
    assert found["within_tolerance"] == 0.5
    # It has no error, and is not taken for a perfect 0.
    assert np.isnan(found["mae"])


def test_temperatures_below_zero_have_no_logarithmic_error() -> None:
    found = metrics([(-5.0, -4.0), (10.0, 12.0)], answer=SHARE_ONLY)
    assert np.isnan(found["rmsle"])
    assert found["mae"] == 1.5


def test_the_trivial_models_give_what_is_good_most_often_the_mean_and_the_median() -> None:
    constants = NumberScoring(COURSE).constants([row(value, None) for value in (1, 2, 9)])
    assert [(each.name, each.answer, each.value) for each in constants] == [
        # Within 40 of all three are the numbers above -31 and below 41.
        ("always 5.00, which is good most often", "$5.00", 5),
        ("always 4.00, the mean", "$4.00", 4),
        ("always 2.00, the median", "$2.00", 2),
    ]


@given(st.lists(amount, min_size=1, max_size=30))
def test_no_number_is_good_more_often_than_the_trivial_models_first(truth: list[float]) -> None:
    scoring = NumberScoring(NumberAnswer(kind="number", decimals=9, tolerance=0.1, tolerance_absolute=3))

    def good(guess: float) -> int:
        return sum(scoring.band(row(true, guess)) == "green" for true in truth)

    best = scoring.constants([row(value, None) for value in truth])[0].value
    tried = [true + step for true in truth for step in (-2.9, -1.0, 0.0, 1.0, 2.9)]
    assert best is not None and good(best) >= max(map(good, tried))


def test_a_true_answer_without_a_number_is_refused() -> None:
    with pytest.raises(EvaluationError, match="'e0' must be a number"):
        NumberScoring(COURSE).score([prediction("$5", "$5")])
