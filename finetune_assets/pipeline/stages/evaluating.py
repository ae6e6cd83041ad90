"""The assets that judge a region's model: its benchmark, and what its probabilities are worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from finetune_assets.asking.predictions import CALIBRATED, ask_models
from finetune_assets.dataset.table import Table
from finetune_assets.evaluation import answering, calibration
from finetune_assets.evaluation.benchmark import sections
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.page import to_html
from finetune_assets.evaluation.prediction import Role
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.pipeline.checks import model_checks
from finetune_assets.pipeline.shown import data_views, views
from finetune_assets.pipeline.stage import Result, stage
from finetune_assets.pipeline.stages import in_use, reviews
from finetune_assets.pipeline.stages.champion import add_to_page
from finetune_assets.pipeline.stages.elsewhere import forgotten
from finetune_assets.provider import pricing
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.client import connect
from finetune_assets.results.files import write_atomically, write_json
from finetune_assets.results.region import Region, task_fingerprint
from finetune_assets.results.standing import standing

Record = dict[str, Any]


@stage(
    io="tables",
    checks=[
        model_checks.ANSWERS_GIVEN,
        model_checks.LABELS_NOT_BENT,
        model_checks.BETTER_THAN_BASE,
        model_checks.NOTHING_FORGOTTEN,
        model_checks.ENOUGH_SCORES,
    ],
)
def benchmark(region: Region, finetuned_model: Record, filtered_qa: Table) -> Result:
    """Compare the new model with the base model and the champion on the test split; collect scores for calibration."""
    task = region.task
    client = connect(task.provider)
    models: dict[Role, str] = {"base": task.base_model, "fine_tuned": finetuned_model["model"]}
    before = standing(region)
    now = before.champion
    earlier: dict[Role, Champion | None] = {"champion": now, "best": before.best}
    for role, champion in earlier.items():
        if champion and champion.model not in models.values() and champion.provider == task.provider:
            models[role] = champion.model
    examples = filtered_qa.frame(split=CALIBRATED)
    with AnswerCache(Path(region.outputs.answers)) as cache:
        predictions = ask_models(client, task, examples, models, cache, dg.get_dagster_logger().info)
        elsewhere = forgotten(client, region, finetuned_model["model"], cache)
    train = filtered_qa.frame(["answer", "score"], split="train")
    found = compare(predictions, task.answer, pricing.prices_of(task), metric=task.benchmark.metric, train=train)
    chart, png = views.answers_chart(found, predictions, task.answer)
    remarks = [views.base_model_note(task, predictions), data_views.relabelled(filtered_qa, now)]
    note = " ".join([*filter(None, remarks), *(f"Elsewhere, {one}." for one in elsewhere)])
    page = to_html(found, {chart: png}, views.thumbnails(found), f"{task.task}, {region.name}", note)
    write_json(region.path("benchmark", ".json"), found.to_dict() | {"elsewhere": [one.to_dict() for one in elsewhere]})
    write_atomically(region.path("benchmark", ".html"), page.encode())
    return dg.MaterializeResult(
        value=predictions,
        metadata={
            "verdict": found.verdict,
            **({"note": note} if note else {}),
            chart: views.picture(png, chart),
            "metrics": views.metrics(found),
            **views.subgroups(found),
            "worst_examples": views.worst_examples(found),
            **views.benchmark_numbers(found),
            "model": finetuned_model["model"],
            "page": dg.MetadataValue.path(str(region.path("benchmark", ".html"))),
        },
        check_results=[
            model_checks.answers_given(region.name, found, task.benchmark),
            model_checks.labels_not_bent(region.name, found),
            model_checks.better_than_base(region.name, found.outcome, found.verdict),
            model_checks.nothing_forgotten(region.name, elsewhere),
            model_checks.enough_scores(region.name, predictions, task.answer),
        ],
    )


@stage(io="records", checks=[model_checks.CALIBRATION_HELPS, model_checks.PROMISE_KEPT])
def calibrator(region: Region, benchmark: pd.DataFrame, finetuned_model: Record) -> Result:
    """Turn the model's scores into probabilities, or numbers into intervals; judged on the test split."""
    model, answer, metric = finetuned_model["model"], region.task.answer, region.task.benchmark.metric
    test = calibration.evidence(benchmark, "test", answer, metric)
    known = calibration.evidence(benchmark, "calibration", answer, metric)
    fitted = calibration.fit(known, answer, model)
    found = calibration.judge(fitted, test, model)
    asked = region.task.benchmark
    rule = answering.fit(asked, fitted, known, answer)
    use = answering.judge(asked, rule, fitted, test, answer) if rule else None
    fingerprint = task_fingerprint(region.task)
    parts = calibration.judge_parts(fitted, benchmark, test, answer)
    chart, png = views.calibration_drawing(fitted, test)
    write_atomically(region.path("calibrator", ".png"), png)
    add_to_page(region, "use", sections.use(found, use, png, parts))
    return dg.MaterializeResult(
        value={
            "calibrator": fitted.to_dict(),
            "report": found.to_dict(),
            "rule": asdict(rule) if rule else None,
            "use": use.to_dict() if use else None,
            "parts": {what: [part.to_dict() for part in each] for what, each in parts.items()},
            "reference": in_use.reference(region, benchmark, fitted, rule),
            "job_id": finetuned_model["job_id"],
            "task_fingerprint": fingerprint,
        },
        metadata={
            "verdict": found.verdict,
            **({"use": str(use)} if use else {}),
            chart: views.picture(png, chart),
            "picture": dg.MetadataValue.path(str(region.path("calibrator", ".png"))),
            **views.calibration_parts(parts),
            **views.calibration_numbers(found),
            "method": views.calibration_method(fitted),
            "job_id": finetuned_model["job_id"],
            "model": model,
            "task_fingerprint": fingerprint,
            "offered": reviews.offer_answers(region, benchmark, fitted),
            **({"warning": fitted.warning} if fitted.warning else {}),
        },
        check_results=[model_checks.calibration_helps(region.name, found), model_checks.promise_kept(region.name, use)],
    )
