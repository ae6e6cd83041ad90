"""Draws benchmarks from a population whose true figures are known, so that intervals and verdicts can be counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from finetune_assets.evaluation.prediction import read_predictions
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer

Draw = Callable[[np.random.Generator, int, int], pd.DataFrame]


@dataclass(frozen=True)
class Population:
    """Where the examples of a benchmark come from."""

    answer: Answer
    draw: Draw
    """Of so many groups, each of so many examples."""

    def true_differences(self, n_draws: int = 12) -> dict[str, float]:
        """Fine-tuned minus base for each metric, of so many examples that chance is left out.

        A mean of draws: with wild errors even 150,000 examples miss the true mean error by a tenth of the width of the
        intervals that are held against it.
        """
        draws = [self._differences(np.random.default_rng(k)) for k in range(n_draws)]
        return {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]}

    def _differences(self, rng: np.random.Generator, n: int = 150_000) -> dict[str, float]:
        scoring, table, everyone = scoring_of(self.answer), self.draw(rng, n, 1), np.ones((1, n))
        of = {
            role: scoring.score(read_predictions(table, "test", role))  # type: ignore[arg-type]
            for role in ("base", "fine_tuned")
        }
        return {
            name: float(metric.resampled(of["fine_tuned"], everyone)[0] - metric.resampled(of["base"], everyone)[0])
            for name, metric in scoring.metrics.items()
        }


def binary(base: float, fine_tuned: float) -> Population:
    """Yes or no; how far a model is on the right side depends on its skill, on the example and on its group."""

    def draw(rng: np.random.Generator, n_groups: int, size: int) -> pd.DataFrame:
        n = n_groups * size
        truth = rng.random(n) < 0.4
        hardness = np.repeat(rng.normal(0, 0.7, n_groups), size) + rng.normal(0, 0.7, n)
        parts = []
        for role, skill in (("base", base), ("fine_tuned", fine_tuned)):
            margin = skill - hardness + rng.normal(0, 1, n)
            p_positive = expit(np.where(truth, margin, -margin))
            word = np.where(p_positive > 0.5, "Yes", "No")
            fields = {"truth": np.where(truth, "Yes", "No"), "predicted": word, "p_positive": p_positive}
            parts.append(_rows(role, n_groups, size, **fields))
        return pd.concat(parts, ignore_index=True)

    return Population(BinaryAnswer(kind="binary"), draw)


def numbers(base: float, fine_tuned: float, *, wild: bool = True) -> Population:
    """Prices over three decades; how far off each guess is, the model and the group say.

    By a log-normal factor where `wild`, else by a normal share of the middle price.
    """

    def draw(rng: np.random.Generator, n_groups: int, size: int) -> pd.DataFrame:
        n = n_groups * size
        truth = np.exp(np.repeat(rng.normal(4, 0.4, n_groups), size) + rng.normal(0, 0.4, n))
        hardness = np.exp(np.repeat(rng.normal(0, 0.15, n_groups), size))
        parts = []
        for role, spread in (("base", base), ("fine_tuned", fine_tuned)):
            off = spread * hardness * rng.normal(0, 1, n)
            guess = truth * np.exp(off) if wild else np.maximum(0, truth + np.exp(4) * off)
            written = {"truth": "$", "predicted": "$", "truth_value": truth, "predicted_value": guess}
            parts.append(_rows(role, n_groups, size, **written))
        return pd.concat(parts, ignore_index=True)

    return Population(NumberAnswer(kind="number", template="${}"), draw)


def _rows(role: str, n_groups: int, size: int, **fields: object) -> pd.DataFrame:
    n = n_groups * size
    missing = dict.fromkeys(("truth_value", "predicted_value", "p_positive", "p_predicted", "p_truth"), np.nan)
    usual = {
        "example_id": [f"e{k:06d}" for k in range(n)],
        "split": "test",
        "role": role,
        "model": role,
        "text": "",
        "group": np.repeat([f"g{k:06d}" for k in range(n_groups)], size),
        "subgroup": None,
        "image": None,
        "question": "?",
        "latency_s": 0.1,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "truncated": False,
        "error": None,
    }
    return pd.DataFrame(missing | usual | fields)
