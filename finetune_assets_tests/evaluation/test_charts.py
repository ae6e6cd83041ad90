"""Charts: real PNGs, small enough for an event log, white, and refused where there is nothing to draw."""

import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation import charts
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.leaderboard import leaderboard
from finetune_assets.evaluation.prediction import read_predictions
from finetune_assets.evaluation.scoring.metric import Confusion
from finetune_assets.task.answers import NumberAnswer, TextAnswer
from finetune_assets_tests.evaluation.predictions import numbers, texts
from finetune_assets_tests.evaluation.test_leaderboard import evaluated

RNG = np.random.default_rng(1)
LOGITS = RNG.normal(0, 2, 400)
LABELS = RNG.random(400) < expit(LOGITS)
CONFUSION = Confusion(("Yes", "No"), ((33, 27, 6), (45, 44, 7)))


def steps(n: int) -> pd.DataFrame:
    step = np.arange(1, n + 1)
    loss = np.exp(-step / n) + RNG.normal(0, 0.1, n)
    return pd.DataFrame({"step": step, "train_loss": loss, "full_valid_loss": np.where(step % 5 == 0, loss, np.nan)})


def large_confusion(n: int) -> Confusion:
    labels = tuple(f"a rather long option number {k}" for k in range(n))
    return Confusion(labels, tuple(map(tuple, RNG.integers(0, 30, (n, n + 1)).tolist())))


def scatter(answer: NumberAnswer, table: pd.DataFrame) -> bytes:
    models = {role: read_predictions(table, "test", role) for role in ("base", "fine_tuned")}
    return charts.truth_against_guess(models, answer)


PRICE = NumberAnswer(kind="number", template="${}", tolerance_absolute=40)
TRUTH = np.exp(RNG.normal(4, 1, 120))
PICTURES = {
    "confusion matrix of eight options": lambda: charts.confusion_matrix(large_confusion(8), large_confusion(8)),
    "confusion matrix of thirty options": lambda: charts.confusion_matrix(large_confusion(30), large_confusion(30)),
    "truth against guess over decades": lambda: scatter(PRICE, numbers()),
    "truth against guess with none readable": lambda: scatter(PRICE, numbers().assign(predicted_value=np.nan)),
    "truth against guess below zero": lambda: scatter(PRICE, numbers().assign(truth_value=lambda f: -f["truth_value"])),
    "coverage over decades": lambda: charts.coverage(TRUTH, TRUTH * 1.3, TRUTH * 0.5, TRUTH * 1.5),
    "coverage without end": lambda: charts.coverage([1, 2], [1, 3], [-np.inf] * 2, [np.inf] * 2),
    "metrics": lambda: charts.metric_intervals(compare(texts(), TextAnswer(kind="text")).comparisons),
    "loss curve of many steps": lambda: charts.loss_curve(steps(1000)),
    "loss curve of one step": lambda: charts.loss_curve(steps(1)),
    "reward curve": lambda: charts.reward_curve(steps(50).rename(columns={"train_loss": "train_reward"})),
    "confusion matrix": lambda: charts.confusion_matrix(CONFUSION, Confusion(("Yes", "No"), ((60, 6, 0), (14, 82, 0)))),
    "reliability": lambda: charts.reliability(expit(2 * LOGITS), expit(LOGITS), LABELS),
    "reliability of equal probabilities": lambda: charts.reliability([0.5] * 20, [0.25] * 20, [1, 0] * 10),
    "histogram of whole numbers": lambda: charts.histogram(RNG.integers(40, 900, 500).tolist(), "Tokens", "tokens"),
    "histogram of one value": lambda: charts.histogram([0.25], "Score", "score"),
    "gains": lambda: charts.gains(leaderboard([evaluated("cells", "mono"), evaluated("cells", "poly", 0.5)])),
    "splits by label": lambda: charts.split_by_label(pd.crosstab(["train", "train", "test"], ["Yes", "No", "No"])),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_chart_is_a_small_white_png_with_something_on_it(name: str) -> None:
    png = PICTURES[name]()
    pixels = matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]
    assert len(png) <= 60_000
    assert pixels.shape[1] >= 500
    assert np.all(pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 1)
    assert 0.01 < np.mean(np.any(pixels != 1, axis=-1)) < 0.95


def test_the_same_data_give_the_same_bytes() -> None:
    assert charts.histogram([1, 2, 2], "Tokens", "tokens") == charts.histogram([1, 2, 2], "Tokens", "tokens")


def test_columns_for_unreadable_answers_only_where_there_are_any() -> None:
    readable = Confusion(("Yes", "No"), ((39, 27, 0), (52, 44, 0)))
    assert charts.confusion_matrix(readable, readable) != charts.confusion_matrix(CONFUSION, readable)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(EvaluationError, match="one of the columns"):
        charts.loss_curve(pd.DataFrame({"step": [1, 2], "accuracy": [0.1, 0.2]}))
    with pytest.raises(EvaluationError, match="one of the columns"):
        charts.reward_curve(steps(3))
    with pytest.raises(EvaluationError, match="no gains"):
        charts.gains([])
    with pytest.raises(EvaluationError, match="at least 1 value"):
        charts.histogram([], "Tokens", "tokens")
    with pytest.raises(EvaluationError, match="at least 1 number"):
        charts.coverage([], [], [], [])
    with pytest.raises(EvaluationError, match="at least 1 answer"):
        charts.truth_against_guess({"Base": []}, PRICE)
    with pytest.raises(EvaluationError, match="at least 1 that is a share"):
        charts.metric_intervals({})
    with pytest.raises(EvaluationError, match="at least 1 split"):
        charts.split_by_label(pd.DataFrame())
