"""Every metric of two models beside each other, with what chance allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from finetune_assets.evaluation.benchmark.pairing import Pairs
from finetune_assets.evaluation.benchmark.report import MetricComparison
from finetune_assets.evaluation.scoring import Scoring
from finetune_assets.evaluation.scoring.metric import Metric
from finetune_assets.evaluation.shares import accuracy_interval, paired_share_interval
from finetune_assets.evaluation.statistics import (
    FloatArray,
    Interval,
    bootstrap,
    difference_interval,
    paired_p_value,
    paired_permutation,
    percentile_interval,
)

Metrics = Mapping[str, Metric[Any]]


def compared(scoring: Scoring[Any], pairs: Pairs) -> dict[str, MetricComparison]:
    """Compare every metric that is defined for both models, in the order of the scoring's metrics.

    Metrics `of_readable` answers are of the examples that both models answered readably. Of one group of examples only
    shares can be compared: nothing is known of how others would differ.
    """
    everything = {name: metric for name, metric in scoring.metrics.items() if not metric.of_readable}
    found = _compared(scoring, everything, pairs)
    readable = {name: metric for name, metric in scoring.metrics.items() if metric.of_readable}
    if readable and len(both := pairs.readable):
        found |= _compared(scoring, readable, both)
    return {name: found[name] for name in scoring.metrics if name in found}


def _compared(scoring: Scoring[Any], metrics: Metrics, pairs: Pairs) -> dict[str, MetricComparison]:
    """Compare metrics on one set of resamples, so that differences are paired."""
    base, tuned, groups = scoring.score(pairs.before), scoring.score(pairs.after), pairs.groups
    n_groups = len(set(groups))
    if n_groups == 1:
        metrics = {name: metric for name, metric in metrics.items() if metric.right_or_wrong}

    def all_metrics(weights: FloatArray) -> FloatArray:
        of_base, of_tuned = (
            np.stack([metric.resampled(answers, weights) for metric in metrics.values()], axis=-1)
            for answers in (base, tuned)
        )
        return np.stack([of_base, of_tuned, of_tuned - of_base], axis=-1)

    estimates = all_metrics(np.ones((1, len(groups))))[0] if metrics else np.empty((0, 3))
    # Of one group only shares are left, which have intervals of their own.
    resampled = bootstrap(all_metrics, groups) if n_groups > 1 else np.empty((0, len(metrics), 3))
    comparisons = {}
    for k, (name, metric) in enumerate(metrics.items()):
        if np.isnan(estimates[k]).any():
            continue
        if metric.each and metric.right_or_wrong:
            before, after = metric.each(base), metric.each(tuned)
            intervals = [accuracy_interval(before, groups), accuracy_interval(after, groups)]
            intervals.append(paired_share_interval(before, after, groups))
        else:
            intervals = _resampled(metric, estimates[k], resampled[:, k], n_groups)
        comparisons[name] = MetricComparison(
            label=metric.label,
            higher_is_better=metric.higher_is_better,
            is_share=metric.is_share,
            n=len(groups),
            base=intervals[0],
            fine_tuned=intervals[1],
            difference=intervals[2],
            p_value=_p_value(metric, base, tuned, groups),
        )
    return comparisons


def _resampled(metric: Metric[Any], estimates: FloatArray, resampled: FloatArray, n_groups: int) -> list[Interval]:
    """Return the intervals of both models [3] and their difference from resamples [b x 3], within what is possible."""
    ways = (percentile_interval, percentile_interval, difference_interval)
    found = [way(estimates[i], resampled[:, i], n_groups) for i, way in enumerate(ways)]
    highest = 1.0 if metric.is_share else np.inf
    ends = [(metric.lowest, highest)] * 2 + [(metric.lowest - highest, highest - metric.lowest)]
    return [
        Interval(one.estimate, max(one.low, low), min(one.high, high), one.level)
        for one, (low, high) in zip(found, ends, strict=True)
    ]


def _p_value(metric: Metric[Any], base: Any, tuned: Any, groups: list[str]) -> float | None:
    if metric.each is None:
        return None
    before, after = metric.each(base), metric.each(tuned)
    return (paired_p_value if metric.right_or_wrong else paired_permutation)(before, after, groups)
