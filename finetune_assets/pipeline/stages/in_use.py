"""A champion in use: how its held-out examples look, and what came of asking it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from finetune_assets.asking.predictions import CALIBRATED
from finetune_assets.dataset import images
from finetune_assets.dataset.answer_reading import label
from finetune_assets.dataset.table import Table
from finetune_assets.errors import FinetuneAssetsError, ImageError
from finetune_assets.evaluation import answering, calibration, drift
from finetune_assets.evaluation.answering import Rule
from finetune_assets.evaluation.calibration import Calibrator
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator
from finetune_assets.evaluation.deferral import DeferralReport, Kept
from finetune_assets.evaluation.drift import UNREADABLE, Reference, features_of, features_of_answer
from finetune_assets.evaluation.prediction import Prediction, read_predictions
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.pipeline.checks import use_checks
from finetune_assets.pipeline.stages import reviews
from finetune_assets.results.region import Region
from finetune_assets.task import Task
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, NumberAnswer, ScoreAnswer

if TYPE_CHECKING:
    from finetune_assets.feedback.store.database import FeedbackDatabase

N_REFERENCE = 1_000
"""Held-out examples that are looked at."""


def reference(region: Region, predictions: pd.DataFrame, calibrator: Calibrator, rule: Rule | None) -> Reference | None:
    """Count how the held-out examples and the model's answers to them look; None where nobody watches."""
    if not region.task.in_use.watch:
        return None
    rows = [row for split in CALIBRATED for row in read_predictions(predictions, split, "fine_tuned")]
    rows = [row for row in rows[:: max(1, len(rows) // N_REFERENCE)] if row.error is None]
    seen = [_seen(region.task, row, calibrator, rule or Rule()) for row in rows]
    return Reference.of(seen, [row.group for row in rows])


def judged(region: Region, champion: Champion | None) -> Iterator[dg.AssetCheckResult]:
    """Judge a region's champion in use by the checks that its task asks for."""
    asked = [check for check in (use_checks.PROMISE_STANDS, use_checks.NOT_DRIFTED) if check.asked(region.task)]
    if not asked:
        return
    if champion is None:
        yield from (check.result(True, f"Region {region.name}: no model answers for it yet.") for check in asked)
        return
    try:
        db = reviews.opened()
        if db is None:
            yield from (use_checks.not_known(check, region.name, reviews.NOT_INSTALLED) for check in asked)
            return
        with db:
            results = [_judged(db, region, champion, check.name) for check in asked]
    except FinetuneAssetsError as error:
        results = [use_checks.not_known(check, region.name, str(error)) for check in asked]
    yield from results


def _judged(db: FeedbackDatabase, region: Region, champion: Champion, check: str) -> dg.AssetCheckResult:
    if check == use_checks.PROMISE_STANDS.name:
        return use_checks.promise_stands(region.name, _today(db, region, champion), _kept(db, region, champion))
    if champion.reference is None:
        why = f"the held-out examples of {champion.model} were not counted; materialise calibrator and champion again"
        return use_checks.not_known(use_checks.NOT_DRIFTED, region.name, why)
    from finetune_assets.feedback.store.usage import counted

    asked = counted(db, region.task.task, region.name, champion.model, use_checks.WINDOW_DAYS)
    return use_checks.not_drifted(region.name, drift.compare(Reference.from_dict(champion.reference), asked))


def _today(db: FeedbackDatabase, region: Region, champion: Champion) -> DeferralReport | None:
    """Judge the champion's threshold on its answers to the test split, by what reviewers say today."""
    path, asked, answer = region.path("benchmark", ".parquet"), region.task.benchmark, region.task.answer
    rule = Rule.from_dict(champion.rule) if champion.rule else Rule()
    if rule.least is None or not path.exists():
        return None
    table = Table(path).frame()
    own = table.loc[(table["model"] == champion.model) & (table["split"] == "test")].drop_duplicates("example_id")
    if own.empty:
        return None
    said = _said_today(db, region)
    known = own["example_id"].map(lambda name: said.get(name))
    now = own.assign(role="fine_tuned", truth=known.fillna(own["truth"]))
    evidence = calibration.evidence(now, "test", answer, asked.metric)
    use = answering.judge(asked, rule, calibration.load(champion.calibrator), evidence, answer)
    return use.deferral if use else None


def _said_today(db: FeedbackDatabase, region: Region) -> dict[str, str]:
    """Return what held-out examples are by blind review, by their ids."""
    from finetune_assets.feedback.store.decisions import decisions

    blind = [one for one in decisions(db, region.task.task, region.name) if one.blind and one.answer is not None]
    read = {one.example_id: label(one.answer, region.task.answer) for one in blind if one.answer is not None}
    return {name: found.answer for name, found in read.items() if found is not None and found.answer is not None}


def _kept(db: FeedbackDatabase, region: Region, champion: Champion) -> Kept | None:
    """Judge what the champion answered without a person and reviewers checked."""
    from finetune_assets.feedback.store.in_use import checked

    asked = region.task.benchmark.defer
    if asked is None or not region.task.in_use.review:
        return None
    found = checked(db, region.task.task, region.name, champion.model)
    rows = [
        Prediction(
            example_id=str(n),
            split="test",
            role="fine_tuned",
            model=champion.model,
            truth=one.truth,
            text=one.said,
            predicted=one.said,
            group=str(n),
            question="",
        )
        for n, one in enumerate(found)
    ]
    right = scoring_of(region.task.answer, region.task.benchmark.metric).score(rows).right if rows else ()
    return Kept(asked, len(rows), int(sum(right)))


def _seen(task: Task, row: Prediction, calibrator: Calibrator, rule: Rule) -> dict[str, float | str]:
    facts, answer = None, task.answer
    if row.image is not None:
        try:
            facts = images.inspect(images.read(row.image))
        except ImageError:
            facts = None  # the image is gone since it was asked about
    score = row.p_positive if isinstance(answer, BinaryAnswer) else row.p_predicted
    word = None
    if isinstance(answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
        p = None
        if not isinstance(calibrator, ConformalCalibrator):
            p = calibration.of_answer(calibrator, score, row.predicted, row.weighed, model=row.model)
        word = rule.word(row.predicted, p, answer) or UNREADABLE
    number = row.predicted_value if isinstance(answer, NumberAnswer) else None
    return features_of(row.question, facts) | features_of_answer(word, score, number)
