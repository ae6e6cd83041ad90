"""What one model's answers to the test examples amount to: its metrics, how long they took, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune_assets.evaluation.benchmark.report import ModelResult
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring import Scoring
from finetune_assets.evaluation.scoring.metric import confusion
from finetune_assets.task.costs import TokenPrices


def model_result(
    scoring: Scoring[Any], rows: Sequence[Prediction], price: TokenPrices | None, batch_share: float
) -> ModelResult:
    """Sum up the rows of one model.

    Args:
        scoring: Of the task's kind of answer.
        rows: The model's answers.
        price: Of the model's tokens; None where it is not known.
        batch_share: Share of it that answers from batches cost.
    """
    latencies = [row.latency_s for row in rows if row.latency_s is not None]
    return ModelResult(
        model=rows[0].model,
        metrics=estimates(scoring, rows),
        n_unparseable=sum(row.predicted is None and row.error is None for row in rows),
        n_failed=sum(row.error is not None for row in rows),
        confusion=confusion(rows, scoring.labels) if scoring.labels else None,
        bands=scoring.bands(rows),
        median_latency_s=float(np.median(latencies)) if latencies else None,
        p95_latency_s=float(np.percentile(latencies, 95)) if latencies else None,
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cost_usd=None if price is None else sum(_usd(row, price, batch_share) for row in rows),
    )


def estimates(scoring: Scoring[Any], rows: Sequence[Prediction]) -> dict[str, float | None]:
    """Return each metric of a model's answers by its name; None where it is not defined on them."""
    readable = [row for row in rows if row.predicted is not None]
    of = {False: scoring.score(rows), True: scoring.score(readable) if readable else None}
    n = {False: len(rows), True: len(readable)}
    values = {
        name: float(metric.resampled(of[metric.of_readable], np.ones((1, n[metric.of_readable])))[0])
        for name, metric in scoring.metrics.items()
        if of[metric.of_readable] is not None
    }
    return {name: None if np.isnan(value := values.get(name, np.nan)) else value for name in scoring.metrics}


def _usd(row: Prediction, price: TokenPrices, batch_share: float) -> float:
    """Return what an answer costs; one without a latency came in a batch."""
    usd = (row.prompt_tokens * price.input + row.completion_tokens * price.output) / 1e6
    return usd * batch_share if row.latency_s is None else usd
