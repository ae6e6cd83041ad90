"""Judge a fine-tuned model against its base model on the same held-out examples, pair by pair.

Every kind of answer has a measure of right and wrong that decides, or the task names another metric, so that there is
one verdict, one paired test and one way to read the report; what else is to be known of a kind are further metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_assets.dataset.shown import shown
from finetune_assets.evaluation.benchmark.both_labels import by_source, unchosen
from finetune_assets.evaluation.benchmark.metrics import compared
from finetune_assets.evaluation.benchmark.model_result import estimates, model_result
from finetune_assets.evaluation.benchmark.pairing import Gain, Pairs, gain
from finetune_assets.evaluation.benchmark.report import Baseline, BenchmarkReport, ChampionComparison, WorstExample
from finetune_assets.evaluation.benchmark.subgroups import by_doubt, by_subgroup
from finetune_assets.evaluation.benchmark.words import against_trivial, failures, judged, not_reviewed, to_be_sure
from finetune_assets.evaluation.prediction import Prediction, Role, read_predictions
from finetune_assets.evaluation.sample_size import needed_examples
from finetune_assets.evaluation.scoring import Scoring, scoring_of
from finetune_assets.evaluation.scoring.binary import YES_NO
from finetune_assets.evaluation.scoring.metric import Constant, Truth
from finetune_assets.evaluation.statistics import FloatArray, outcome, verdict
from finetune_assets.task.answers import Answer
from finetune_assets.task.costs import Prices
from finetune_assets.task.judging import DecidingMetric

if TYPE_CHECKING:
    import pandas as pd

N_WORST = 12
UNKNOWN = Prices()


def compare(
    predictions: pd.DataFrame,
    answer: Answer = YES_NO,
    prices: Prices = UNKNOWN,
    *,
    metric: DecidingMetric | None = None,
    train: pd.DataFrame | None = None,
) -> BenchmarkReport:
    """Compare the roles `base` and `fine_tuned` on the rows of split `test`; other splits are ignored.

    Where there are roles `champion` and `best`, the fine-tuned model is compared with those too.

    Args:
        predictions: A row for each example and role, with the columns of `Prediction`. An answer that could not be
            parsed counts as wrong, and so does a request that failed.
        answer: The task's kind of answer.
        prices: What the base and the fine-tuned models' answers cost; they change no comparison.
        metric: What decides; by default the share of right answers.
        train: True answers of the training split, columns `answer` and `score`: the trivial model is chosen on them.
            Without it that is chosen on the test split itself, so that none of its kind could do better.

    Raises:
        EvaluationError: columns missing, examples asked of one model only or twice, truths that differ between the
            roles, answers that are not the task's, or no examples.
    """
    rows, scoring = read_predictions(predictions, "test"), scoring_of(answer, metric)
    pairs = Pairs.of(rows, "base", "fine_tuned")
    base, tuned, groups = scoring.score(pairs.before), scoring.score(pairs.after), pairs.groups
    comparisons = compared(scoring, pairs)
    primary = next(iter(scoring.metrics))
    found = gain(scoring, scoring.decisive(base), scoring.decisive(tuned), groups)
    result = outcome(comparisons[primary].difference, found.p_value) if primary in comparisons else found.outcome
    constants = scoring.constants(_truths(train) if train is not None and len(train) else pairs.before)
    trivial = tuple(Baseline(one.name, estimates(scoring, _always(pairs.before, one))) for one in constants)
    best = scoring.decisive(scoring.score(_always(pairs.before, constants[0])))
    over_baseline = gain(scoring, best, scoring.decisive(tuned), groups)
    n_needed = _needed(scoring, base, tuned, groups) if result == "inconclusive" else None
    models = [
        model_result(scoring, of, price, prices.batch_share)
        for of, price in ((pairs.before, prices.base), (pairs.after, prices.fine_tuned))
    ]
    complete, labels = _complete_cases(scoring, pairs), by_source(scoring, pairs)
    words = (
        judged(scoring, comparisons, result, found.p_value),
        to_be_sure(n_needed, len(pairs)),
        against_trivial(trivial[0], primary, over_baseline.difference, over_baseline.p_value),
        failures(models[1], models[0], len(pairs), complete),
        f"{str(labels)[0].upper()}{str(labels)[1:]}." if labels else "",
    )
    return BenchmarkReport(
        kind=answer.kind,
        primary=primary,
        n=len(pairs),
        n_unanswered=len(pairs) - len(pairs.answered),
        complete_cases=complete,
        baselines=trivial,
        over_baseline=over_baseline.difference,
        baseline_p=over_baseline.p_value,
        base=models[0],
        fine_tuned=models[1],
        over_champion=_over(scoring, rows, "champion", prices),
        over_best=_over(scoring, rows, "best", prices),
        comparisons=comparisons,
        n_fixed=int(np.sum(tuned.right > base.right)),
        n_broken=int(np.sum(tuned.right < base.right)),
        p_value=found.p_value,
        subgroups=by_subgroup(pairs.before, base.right, tuned.right),
        by_doubt=by_doubt(pairs.before, base.right, tuned.right),
        by_source_labels=labels,
        outcome=result,
        n_needed=n_needed,
        verdict=" ".join(filter(None, words)),
        worst=_worst(scoring, pairs, base.right, tuned.right),
    )


def _truths(train: pd.DataFrame) -> list[Truth]:
    scores = train["score"].astype(float).to_numpy()
    return [Truth(words, float(value)) for words, value in zip(train["answer"].astype(str), scores, strict=True)]


def _needed(scoring: Scoring[Any], base: Any, tuned: Any, groups: Sequence[str]) -> int | None:
    return needed_examples(scoring.decisive(base), scoring.decisive(tuned), groups)


def _complete_cases(scoring: Scoring[Any], pairs: Pairs) -> Gain | None:
    """Compare on the examples that both answered; None where these are all, or none."""
    both = pairs.answered
    if len(both) in (0, len(pairs)):
        return None
    before, after = (scoring.decisive(scoring.score(rows)) for rows in (both.before, both.after))
    return gain(scoring, before, after, both.groups)


def _always(rows: Sequence[Prediction], constant: Constant) -> list[Prediction]:
    """Return what a trivial model would have answered."""
    given = {"text": constant.answer, "predicted": constant.answer, "predicted_value": constant.value}
    unsure = {"p_positive": None, "p_predicted": None, "p_truth": None, "truncated": False, "error": None}
    return [replace(row, **given, **unsure) for row in rows]


def _over(scoring: Scoring[Any], rows: list[Prediction], role: Role, prices: Prices) -> ChampionComparison | None:
    """Compare the fine-tuned model with one that it would replace; None where that was not asked."""
    if all(row.role != role for row in rows):
        return None
    asked = Pairs.of(rows, role, "fine_tuned")
    pairs, n_by_source = unchosen(asked)
    before, after = scoring.score(pairs.before), scoring.score(pairs.after)
    found = gain(scoring, scoring.decisive(before), scoring.decisive(after), pairs.groups)
    said = verdict(found.outcome, found.difference, found.p_value, scoring.deciding.label.lower())
    return ChampionComparison(
        champion=model_result(scoring, asked.before, prices.fine_tuned, prices.batch_share),
        n=len(pairs),
        n_by_source=n_by_source,
        difference=found.difference,
        p_value=found.p_value,
        outcome=found.outcome,
        verdict=f"{said} {not_reviewed(n_by_source)}".strip(),
        subgroups=by_subgroup(pairs.before, before.right, after.right),
    )


def _images(row: Prediction) -> tuple[str, ...]:
    if row.pictures is None:
        return () if row.image is None else (row.image,)
    return tuple(image.image for image in shown({"pictures": row.pictures}))


def _worst(
    scoring: Scoring[Any], pairs: Pairs, base_right: FloatArray, tuned_right: FloatArray
) -> tuple[WorstExample, ...]:
    """Return the wrong answers, the worst first."""
    base, tuned = pairs.before, pairs.after
    wrong = [(scoring.badness(tuned[k]), k) for k in np.flatnonzero(tuned_right == 0).tolist()]
    shown = [k for _, k in sorted(wrong, key=lambda pair: -pair[0])[:N_WORST]]
    return tuple(
        WorstExample(
            example_id=tuned[k].example_id,
            images=_images(tuned[k]),
            question=tuned[k].question,
            truth=tuned[k].truth,
            text=tuned[k].text,
            predicted=tuned[k].predicted,
            p_truth=tuned[k].p_truth,
            p_predicted=tuned[k].p_predicted,
            base_text=base[k].text,
            base_correct=bool(base_right[k]),
            error=tuned[k].error,
        )
        for k in shown
    )
