"""Builds what arms of a contest have answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from finetune_assets.evaluation.arms.entry import Entry, ordered
from finetune_assets.evaluation.prediction import Prediction, read_predictions
from finetune_assets.task.costs import TokenPrices
from finetune_assets_tests.evaluation.predictions import role

FREE = TokenPrices(input=0, output=0)


def usd(per_1000: float) -> TokenPrices:
    """Prices with which 1,000 answers of 40 tokens and one cost so much."""
    return TokenPrices(input=per_1000 * 1000 / 41, output=per_1000 * 1000 / 41)


def entry(name: str, share: float, n: int = 200, *, seed: int = 1, price: TokenPrices | None = FREE) -> Entry:
    """An arm that is right with this probability, in both splits, and less sure where it is wrong."""
    truth = np.random.default_rng(0).random(n) < 0.4
    test = read_predictions(role(name, truth, share, seed), "test")
    known = read_predictions(role(name, truth, share, seed + 1000, split="calibration"), "calibration")
    answered, calibrating = (ordered(map(_modest, rows)) for rows in (test, known))
    return Entry(name, name, f"the model {name}", answered, calibrating, price)


def _modest(row: Prediction) -> Prediction:
    if row.predicted == row.truth or row.p_positive is None:
        return row
    return replace(row, p_positive=0.5 + 0.4 * (row.p_positive - 0.5))
