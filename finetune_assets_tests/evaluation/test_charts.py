"""Charts: real PNGs, small enough for an event log, white, and refused where there is nothing to draw."""

import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation import charts
from finetune_assets.evaluation.scoring import Confusion

RNG = np.random.default_rng(1)
LOGITS = RNG.normal(0, 2, 400)
LABELS = RNG.random(400) < expit(LOGITS)
CONFUSION = Confusion(("Yes", "No"), ((33, 27, 6), (45, 44, 7)))


def steps(n: int) -> pd.DataFrame:
    step = np.arange(1, n + 1)
    loss = np.exp(-step / n) + RNG.normal(0, 0.1, n)
    return pd.DataFrame({"step": step, "train_loss": loss, "full_valid_loss": np.where(step % 5 == 0, loss, np.nan)})


PICTURES = {
    "loss curve of many steps": lambda: charts.loss_curve(steps(1000)),
    "loss curve of one step": lambda: charts.loss_curve(steps(1)),
    "confusion matrix": lambda: charts.confusion_matrix(CONFUSION, Confusion(("Yes", "No"), ((60, 6, 0), (14, 82, 0)))),
    "reliability": lambda: charts.reliability(expit(2 * LOGITS), expit(LOGITS), LABELS),
    "reliability of equal probabilities": lambda: charts.reliability([0.5] * 20, [0.25] * 20, [1, 0] * 10),
    "histogram of whole numbers": lambda: charts.histogram(RNG.integers(40, 900, 500).tolist(), "Tokens", "tokens"),
    "histogram of one value": lambda: charts.histogram([0.25], "Score", "score"),
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
    with pytest.raises(EvaluationError, match="at least 1 value"):
        charts.histogram([], "Tokens", "tokens")
    with pytest.raises(EvaluationError, match="at least 1 split"):
        charts.split_by_label(pd.DataFrame())
