"""Judge a fine-tuned model against its base model on the same held-out examples, pair by pair.

Every kind of answer has a measure of right and wrong that decides, so that there is one verdict, one paired test and
one way to read the report; what else is to be known of a kind are further metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.benchmark.model_result import estimates, model_result
from finetune_assets.evaluation.benchmark.report import (
    Baseline,
    BenchmarkReport,
    ChampionComparison,
    MetricComparison,
    WorstExample,
)
from finetune_assets.evaluation.benchmark.subgroups import by_subgroup
from finetune_assets.evaluation.benchmark.words import against_trivial, judged, to_be_sure
from finetune_assets.evaluation.prediction import Prediction, Role, read_predictions
from finetune_assets.evaluation.sample_size import needed_examples
from finetune_assets.evaluation.scoring import Scoring, scoring_of
from finetune_assets.evaluation.scoring.binary import YES_NO
from finetune_assets.evaluation.scoring.metric import Constant, Metric
from finetune_assets.evaluation.shares import accuracy_interval, paired_share_interval
from finetune_assets.evaluation.statistics import (
    FloatArray,
    bootstrap,
    difference_interval,
    outcome,
    paired_p_value,
    paired_permutation,
    percentile_interval,
    verdict,
)
from finetune_assets.task import Answer
from finetune_assets.task.costs import Prices

if TYPE_CHECKING:
    import pandas as pd

N_WORST = 12
UNKNOWN = Prices()


def compare(predictions: pd.DataFrame, answer: Answer = YES_NO, prices: Prices = UNKNOWN) -> BenchmarkReport:
    """Compare the roles `base` and `fine_tuned` on the rows of split `test`; other splits are ignored.

    Where there is a role `champion`, the fine-tuned model is compared with that one too. `prices` are what the base
    and the fine-tuned models' answers cost; they change no comparison.

    `predictions` has a row for each example and role, with the columns of `Prediction`. An answer that could not be
    parsed counts as wrong. An example whose request failed for either model is left out for both: a failed request
    says nothing about a model.

    Raises:
        EvaluationError: columns missing, examples asked of one model only or twice, truths that differ between the
            roles, answers that are not the task's, or fewer than two groups answered by both models.
    """
    rows, scoring = read_predictions(predictions, "test"), scoring_of(answer)
    base, tuned, n_unanswered = _answered_by_both(rows, "base", "fine_tuned")
    base_answers, tuned_answers, groups = scoring.score(base), scoring.score(tuned), [row.group for row in base]
    comparisons = _comparisons(scoring, base_answers, tuned_answers, groups)
    primary = next(iter(scoring.metrics))
    base_right, tuned_right = base_answers.right, tuned_answers.right
    baselines = sorted(_baselines(scoring, base), key=lambda pair: -pair[1].right.sum())
    trivial = tuple(Baseline(name, estimates(scoring, answers, len(base))) for name, answers in baselines)
    over_baseline = paired_share_interval(baselines[0][1].right, tuned_right, groups)
    p_value = paired_p_value(base_right, tuned_right, groups)
    result = outcome(comparisons[primary].difference, p_value)
    n_needed = needed_examples(base_right, tuned_right, groups) if result == "inconclusive" else None
    words = (
        judged(scoring, comparisons, result, p_value),
        to_be_sure(n_needed, len(base)),
        against_trivial(trivial[0], primary, over_baseline),
    )
    return BenchmarkReport(
        kind=answer.kind,
        primary=primary,
        n=len(base),
        n_unanswered=n_unanswered,
        baselines=trivial,
        over_baseline=over_baseline,
        base=model_result(scoring, base, base_answers, prices.base, prices.batch_share),
        fine_tuned=model_result(scoring, tuned, tuned_answers, prices.fine_tuned, prices.batch_share),
        over_champion=_over_champion(scoring, rows, prices),
        comparisons=comparisons,
        n_fixed=int(np.sum(tuned_right > base_right)),
        n_broken=int(np.sum(tuned_right < base_right)),
        p_value=p_value,
        subgroups=by_subgroup(base, base_right, tuned_right),
        outcome=result,
        n_needed=n_needed,
        verdict=" ".join(filter(None, words)),
        worst=_worst(scoring, base, tuned, base_right, tuned_right),
    )


def _answered_by_both(rows: list[Prediction], *roles: Role) -> tuple[list[Prediction], list[Prediction], int]:
    """Return the rows of the two roles, aligned by example, and how many examples were left out."""
    rows = [row for row in rows if row.role in roles]
    base, tuned = ({row.example_id: row for row in rows if row.role == role} for role in roles)
    if len(base) + len(tuned) < len(rows):
        raise EvaluationError(f"each test example must be asked once of each role, {' and '.join(roles)}")
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
    pairs = [_ranked_alike(base[name], tuned[name]) for name in answered]
    return [one for one, _ in pairs], [other for _, other in pairs], len(base) - len(answered)


def _ranked_alike(base: Prediction, tuned: Prediction) -> tuple[Prediction, Prediction]:
    """Models are ranked on the same examples: where one gave no probability, the other's does not count."""
    if None in (base.p_positive, tuned.p_positive):
        return replace(base, p_positive=None), replace(tuned, p_positive=None)
    return base, tuned


def _comparisons(scoring: Scoring[Any], base: Any, tuned: Any, groups: Sequence[str]) -> dict[str, MetricComparison]:
    """Compare every metric that is defined for both models, on one set of resamples, so that differences are paired."""
    metrics = scoring.metrics

    def all_metrics(weights: FloatArray) -> FloatArray:
        of_base, of_tuned = (
            np.stack([metric.resampled(answers, weights) for metric in metrics.values()], axis=-1)
            for answers in (base, tuned)
        )
        return np.stack([of_base, of_tuned, of_tuned - of_base], axis=-1)

    estimates = all_metrics(np.ones((1, len(groups))))[0]
    resampled = bootstrap(all_metrics, groups)
    comparisons = {}
    for k, (name, metric) in enumerate(metrics.items()):
        if np.isnan(estimates[k]).any():
            continue
        ways = (percentile_interval, percentile_interval, difference_interval)
        intervals = [way(estimates[k, i], resampled[:, k, i], len(set(groups))) for i, way in enumerate(ways)]
        if metric.each and metric.right_or_wrong:
            before, after = metric.each(base), metric.each(tuned)
            intervals = [accuracy_interval(before, groups), accuracy_interval(after, groups)]
            intervals.append(paired_share_interval(before, after, groups))
        comparisons[name] = MetricComparison(
            label=metric.label,
            higher_is_better=metric.higher_is_better,
            is_share=metric.is_share,
            base=intervals[0],
            fine_tuned=intervals[1],
            difference=intervals[2],
            p_value=_p_value(metric, base, tuned, groups),
        )
    return comparisons


def _p_value(metric: Metric[Any], base: Any, tuned: Any, groups: Sequence[str]) -> float | None:
    if metric.each is None:
        return None
    before, after = metric.each(base), metric.each(tuned)
    return (paired_p_value if metric.right_or_wrong else paired_permutation)(before, after, groups)


def _always(rows: Sequence[Prediction], constant: Constant) -> list[Prediction]:
    """Return what a trivial model would have answered."""
    given = {"text": constant.answer, "predicted": constant.answer, "predicted_value": constant.value}
    unsure = {"p_positive": None, "p_predicted": None, "p_truth": None, "truncated": False}
    return [replace(row, **given, **unsure) for row in rows]


def _baselines(scoring: Scoring[Any], rows: Sequence[Prediction]) -> list[tuple[str, Any]]:
    """Return the names of the trivial models, and what the metrics need of their answers."""
    return [(constant.name, scoring.score(_always(rows, constant))) for constant in scoring.constants(rows)]


def _over_champion(scoring: Scoring[Any], rows: list[Prediction], prices: Prices) -> ChampionComparison | None:
    """Compare the fine-tuned model with the one that it would replace."""
    if all(row.role != "champion" for row in rows):
        return None
    champion, tuned, _ = _answered_by_both(rows, "champion", "fine_tuned")
    before, after, groups = scoring.score(champion), scoring.score(tuned), [row.group for row in champion]
    difference = paired_share_interval(before.right, after.right, groups)
    p_value = paired_p_value(before.right, after.right, groups)
    result = outcome(difference, p_value)
    label = next(iter(scoring.metrics.values())).label.lower()
    return ChampionComparison(
        champion=model_result(scoring, champion, before, prices.fine_tuned, prices.batch_share),
        n=len(champion),
        difference=difference,
        p_value=p_value,
        outcome=result,
        verdict=verdict(result, difference, p_value, label),
    )


def _worst(
    scoring: Scoring[Any],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    base_right: FloatArray,
    tuned_right: FloatArray,
) -> tuple[WorstExample, ...]:
    """Return the wrong answers, the worst first."""
    wrong = [(scoring.badness(tuned[k]), k) for k in np.flatnonzero(tuned_right == 0).tolist()]
    shown = [k for _, k in sorted(wrong, key=lambda pair: -pair[0])[:N_WORST]]
    return tuple(
        WorstExample(
            example_id=tuned[k].example_id,
            image=tuned[k].image,
            question=tuned[k].question,
            truth=tuned[k].truth,
            text=tuned[k].text,
            predicted=tuned[k].predicted,
            p_truth=tuned[k].p_truth,
            p_predicted=tuned[k].p_predicted,
            base_text=base[k].text,
            base_correct=bool(base_right[k]),
        )
        for k in shown
    )
