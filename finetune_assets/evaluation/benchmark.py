"""Judge a fine-tuned model against its base model on the same held-out examples, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.benchmark_page import to_html
from finetune_assets.evaluation.benchmark_report import BenchmarkReport, MetricComparison, ModelResult, WorstExample
from finetune_assets.evaluation.scoring import METRICS, YES_NO, ScoredAnswers, binary_metrics, scored
from finetune_assets.evaluation.statistics import (
    FloatArray,
    accuracy_interval,
    bootstrap,
    mcnemar,
    outcome,
    paired_bootstrap,
    percentile_interval,
    verdict,
)
from finetune_assets.task import BinaryAnswer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BenchmarkReport", "Prediction", "compare", "to_html"]

N_WORST = 12


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's answer to one example; the fields are the columns of the predictions table, null where None."""

    example_id: str
    split: str
    role: str
    """`base` or `fine_tuned`."""
    model: str
    truth: str
    text: str | None
    """What the model wrote."""
    predicted: str | None
    """The answer word in it, None where it could not be parsed."""
    p_positive: float | None
    """Probability of the positive answer, None without log-probabilities."""
    group: str
    image: str | None
    question: str
    latency_s: float | None
    error: str | None
    """Why the request failed, None where it did not."""


def compare(predictions: pd.DataFrame, answer: BinaryAnswer = YES_NO) -> BenchmarkReport:
    """Compare the roles `base` and `fine_tuned` on the rows of split `test`; other splits are ignored.

    `predictions` has a row for each example and role, with the columns of `Prediction`. An answer that could not be
    parsed counts as wrong. An example whose request failed for either model is left out for both: a failed request
    says nothing about a model.

    Raises:
        EvaluationError: columns missing, examples asked of one model only or twice, truths that differ between the
            roles, words that are not the task's, or fewer than two groups answered by both models.
    """
    base, tuned, n_unanswered = _answered_by_both(_read(predictions))
    groups, truth = [row.group for row in base], [row.truth for row in base]
    ranked = [None not in (one.p_positive, other.p_positive) for one, other in zip(base, tuned, strict=True)]
    base_answers, tuned_answers = (scored(*_answers(rows, ranked), answer) for rows in (base, tuned))
    comparisons = _comparisons(base_answers, tuned_answers, groups)
    majority = max(sorted(set(truth)), key=truth.count)
    always_majority = [word == majority for word in truth]
    p_value = mcnemar(base_answers.correct, tuned_answers.correct)
    return BenchmarkReport(
        n=len(truth),
        n_unanswered=n_unanswered,
        majority_answer=majority,
        majority_accuracy=truth.count(majority) / len(truth),
        over_majority=paired_bootstrap(always_majority, tuned_answers.correct, groups),
        base=_result(base, ranked, answer),
        fine_tuned=_result(tuned, ranked, answer),
        comparisons=comparisons,
        n_fixed=int(np.sum(tuned_answers.correct > base_answers.correct)),
        n_broken=int(np.sum(tuned_answers.correct < base_answers.correct)),
        p_value=p_value,
        outcome=outcome(comparisons["accuracy"].difference, p_value),
        verdict=verdict(comparisons["accuracy"].difference, p_value),
        worst=_worst(base, tuned, answer),
    )


def _read(predictions: pd.DataFrame) -> list[Prediction]:
    """Read the rows of the test split."""
    names = [field.name for field in fields(Prediction)]
    if missing := [name for name in names if name not in predictions]:
        raise EvaluationError(f"the predictions lack the columns {missing}")
    # None instead of each of the ways in which pandas writes a missing value
    present = predictions[names].astype(object).where(predictions[names].notna(), None)
    rows = (Prediction(*row) for row in present.itertuples(index=False, name=None))
    return [row for row in rows if row.split == "test"]


def _answered_by_both(rows: list[Prediction]) -> tuple[list[Prediction], list[Prediction], int]:
    """Return the base and the fine-tuned model's rows, aligned by example, and how many examples were left out."""
    base, tuned = ({row.example_id: row for row in rows if row.role == role} for role in ("base", "fine_tuned"))
    if len(base) + len(tuned) < len(rows):
        raise EvaluationError("each test example must be asked once of each role, base and fine_tuned")
    if alone := sorted(base.keys() ^ tuned.keys()):
        raise EvaluationError(f"{len(alone)} test examples were asked of one model only, such as {alone[0]!r}")
    if differ := [name for name in base if base[name].truth != tuned[name].truth]:
        raise EvaluationError(f"the true answer of {differ[0]!r} differs between the two models' rows")
    answered = [name for name in sorted(base) if base[name].error is None and tuned[name].error is None]
    if len({base[name].group for name in answered}) < 2:
        raise EvaluationError(
            "a benchmark needs at least 2 test examples, of different groups, answered by both models, "
            f"got {len(answered)} of {len(base)}: enlarge the test split, or see the column `error` of the predictions"
        )
    return [base[name] for name in answered], [tuned[name] for name in answered], len(base) - len(answered)


def _answers(
    rows: Sequence[Prediction], ranked: Sequence[bool]
) -> tuple[list[str], list[float | None], list[str | None]]:
    """Return true words, probabilities and words given; only `ranked` rows, the same for both models, keep theirs."""
    probabilities = [row.p_positive if keep else None for row, keep in zip(rows, ranked, strict=True)]
    return [row.truth for row in rows], probabilities, [row.predicted for row in rows]


def _result(rows: Sequence[Prediction], ranked: Sequence[bool], answer: BinaryAnswer) -> ModelResult:
    latencies = [row.latency_s for row in rows if row.latency_s is not None]
    return ModelResult(
        model=rows[0].model,
        metrics=binary_metrics(*_answers(rows, ranked), answer),
        median_latency_s=median(latencies) if latencies else None,
    )


def _comparisons(base: ScoredAnswers, tuned: ScoredAnswers, groups: Sequence[str]) -> dict[str, MetricComparison]:
    """Compare every metric that is defined for both models, on one set of resamples, so that differences are paired."""

    def all_metrics(weights: FloatArray) -> FloatArray:
        of_base, of_tuned = (np.stack([m(a, weights) for m in METRICS.values()], axis=-1) for a in (base, tuned))
        return np.stack([of_base, of_tuned, of_tuned - of_base], axis=-1)

    estimates = all_metrics(np.ones((1, len(groups))))[0]
    resampled = bootstrap(all_metrics, groups)
    comparisons = {}
    for k, name in enumerate(METRICS):
        if not np.isnan(estimates[k]).any():
            of_base, of_tuned, difference = (
                percentile_interval(estimates[k, i], resampled[:, k, i], len(set(groups))) for i in range(3)
            )
            comparisons[name] = MetricComparison(of_base, of_tuned, difference)
    of_base, of_tuned = (accuracy_interval(answers.correct, groups) for answers in (base, tuned))
    return comparisons | {"accuracy": MetricComparison(of_base, of_tuned, comparisons["accuracy"].difference)}


def _worst(base: Sequence[Prediction], tuned: Sequence[Prediction], answer: BinaryAnswer) -> tuple[WorstExample, ...]:
    """Return the wrong answers in rising order of the probability given to the truth; those without one come last."""
    wrong = [
        WorstExample(
            example_id=row.example_id,
            image=row.image,
            question=row.question,
            truth=row.truth,
            text=row.text,
            predicted=row.predicted,
            p_truth=_p_truth(row, answer),
            base_correct=before.predicted == before.truth,
        )
        for before, row in zip(base, tuned, strict=True)
        if row.predicted != row.truth
    ]
    return tuple(sorted(wrong, key=lambda example: 2 if example.p_truth is None else example.p_truth)[:N_WORST])


def _p_truth(row: Prediction, answer: BinaryAnswer) -> float | None:
    if row.p_positive is None:
        return None
    return row.p_positive if row.truth == answer.positive else 1 - row.p_positive
