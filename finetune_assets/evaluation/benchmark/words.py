"""What a benchmark's numbers mean, in sentences that say no more than the numbers do."""

from __future__ import annotations

from typing import Any

from finetune_assets.evaluation.benchmark.pairing import Gain
from finetune_assets.evaluation.benchmark.report import Baseline, MetricComparison, ModelResult
from finetune_assets.evaluation.sample_size import POWER
from finetune_assets.evaluation.scoring import Scoring
from finetune_assets.evaluation.statistics import Interval, Outcome, outcome, p_words, signed_parts, verdict


def judged(scoring: Scoring[Any], comparisons: dict[str, MetricComparison], result: Outcome, p_value: float) -> str:
    """Say what the deciding metric says, and beside it the one that it may hide something of."""
    decisive = next(iter(comparisons.values()))
    said = verdict(result, decisive.difference, p_value, decisive.label.lower())
    beside = comparisons.get(scoring.second or "")
    if beside is None or beside.p_value is None:
        return said
    scale, digits = beside.scale, beside.digits
    change, low, high = signed_parts(beside.difference, scale, digits)
    found = outcome(beside.difference, beside.p_value, beside.higher_is_better)
    meant = {"better": "better", "worse": "worse", "inconclusive": "no significant change"}[found]
    return (
        f"{said} {beside.label}: {scale * beside.fine_tuned.estimate:,.{digits}f} against "
        f"{scale * beside.base.estimate:,.{digits}f}, {meant} ({change}, {100 * beside.difference.level:g} % interval "
        f"{low} to {high}, {p_words(beside.p_value)})."
    )


def to_be_sure(n_needed: int | None, n: int) -> str:
    """Say how many examples would settle what these do not."""
    if n_needed is None:
        return ""
    return (
        f"If the true difference is this one, about {n_needed:,} such test examples would be needed to show it "
        f"({100 * POWER:.0f} % of the time), and there are {n:,}."
    )


def against_trivial(trivial: Baseline, primary: str, gain: Interval, p_value: float) -> str:
    """Say whether the fine-tuned model is of more use than the best trivial one."""
    beats = {"better": "beats", "worse": "is worse than", "inconclusive": "is not shown to beat"}[
        outcome(gain, p_value)
    ]
    change, low, high = signed_parts(gain, scale=100)
    numbers = f"{change} points ({100 * gain.level:g} % interval {low} to {high})"
    right = f"which is right in {100 * (trivial.metrics[primary] or 0):.1f} %"
    return f"The fine-tuned model {beats} a trivial one ({trivial.name}), {right}: {numbers}."


def not_reviewed(n_by_source: int) -> str:
    """Say by which labels two candidates are compared, where these are not today's."""
    if not n_by_source:
        return ""
    return (
        f"Of the labels that reviewers corrected because a candidate denied them, {n_by_source} count here as the "
        "source has them: what the newest model denies is not all reviewed yet, and the others would gain by it."
    )


def failures(tuned: ModelResult, base: ModelResult, n: int, complete: Gain | None) -> str:
    """Say how many requests failed, and what the comparison would be without them."""
    if not tuned.n_failed and not base.n_failed:
        return ""
    failed = f"{tuned.n_failed} of {n} requests of the fine-tuned model and {base.n_failed} of the base model failed"
    if complete is None:
        return f"{failed}; they count as wrong."
    change, low, high = signed_parts(complete.difference, scale=100)
    return f"{failed}; they count as wrong. On the {complete.n} that both answered: {change} points ({low} to {high})."
