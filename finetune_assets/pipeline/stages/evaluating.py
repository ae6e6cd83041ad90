"""The assets that judge a region's model: its benchmark, and what its probabilities are worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pandas as pd

from finetune_assets.asking.predictions import CALIBRATED, ask_models
from finetune_assets.dataset.table import Table
from finetune_assets.evaluation import answering, calibration
from finetune_assets.evaluation.arms.page import section
from finetune_assets.evaluation.benchmark import sections
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.page import to_html
from finetune_assets.pipeline.checks import model_checks
from finetune_assets.pipeline.shown import contest_views, data_views, views
from finetune_assets.pipeline.stage import Result, stage
from finetune_assets.pipeline.stages import contenders, in_use, reviews
from finetune_assets.pipeline.stages.champion import add_to_page
from finetune_assets.pipeline.stages.contest import ArmsChoice, arms_of, contest
from finetune_assets.pipeline.stages.elsewhere import forgotten
from finetune_assets.provider import pricing
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.client import connect
from finetune_assets.provider.files import content_hash
from finetune_assets.results.files import write_atomically, write_json
from finetune_assets.results.records import Calibrated, Judged, Trained, require_same_model
from finetune_assets.results.region import Region
from finetune_assets.results.standing import standing


@stage(
    io="tables",
    checks=[
        model_checks.NEVER_SEEN,
        model_checks.ANSWERS_GIVEN,
        model_checks.LABELS_NOT_BENT,
        model_checks.BETTER_THAN_BASE,
        model_checks.NOTHING_FORGOTTEN,
        model_checks.ENOUGH_SCORES,
    ],
)
def benchmark(region: Region, finetuned_model: Trained, filtered_qa: Table, choice: ArmsChoice) -> Result:
    """Compare the new model with the base model and the champion on the test split; collect scores for calibration.

    Each model is asked as it was trained to be asked, whatever the task's YAML says by now. The arms of
    `benchmark.arms`, if there are any, are asked the same.
    """
    region = replace(region, task=finetuned_model.task.applied_to(region.task))
    task, client = region.task, connect(region.task.provider)
    finetuned_model.require_same_provider(region, client)
    arms, examples = arms_of(task, choice), filtered_qa.frame(split=CALIBRATED)
    contenders.require_own_words(region, examples)
    models = contenders.contenders(region, finetuned_model)
    seen = contenders.seen(region, finetuned_model, models, examples)
    unseen = model_checks.never_seen(region.name, seen)
    if not unseen.passed and unseen.severity is dg.AssetCheckSeverity.ERROR:
        if model_checks.NEVER_SEEN.severity(task) == "error":
            return unseen
        models = contenders.without(models, seen)
    with AnswerCache(Path(region.outputs.answers)) as cache:
        predictions = ask_models(client, models, examples, cache, dg.get_dagster_logger().info)
        elsewhere = forgotten(client, region, finetuned_model.model, cache)
        others = contest(region, finetuned_model, filtered_qa, predictions, (client, cache), arms)
    train = filtered_qa.frame(["answer", "score"], split="train")
    found = compare(predictions, task.answer, pricing.prices_of(task), metric=task.benchmark.metric, train=train)
    found = replace(found, elsewhere=tuple(elsewhere))
    chart, png = views.answers_chart(found, predictions, task.answer)
    remarks = [views.base_model_note(task, predictions), data_views.relabelled(filtered_qa, standing(region).champion)]
    note = " ".join([*filter(None, remarks), *(f"Elsewhere, {one}." for one in elsewhere)])
    page = to_html(found, {chart: png}, views.thumbnails(found), f"{task.task}, {region.name}", note)
    drawn = contest_views.picture(others) if others else None
    page = sections.put_in(page, "arms", section(others)) if others else page
    judged = {"judged": _judged(finetuned_model, filtered_qa).model_dump(mode="json")}
    contested = {"contest": others.to_dict()} if others else {}
    write_json(region.path("benchmark", ".json"), found.to_dict() | contested | judged)
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
            **contest_views.metadata(others, drawn),
            "model": finetuned_model.model,
            "page": views.page(region.path("benchmark", ".html")),
        },
        check_results=[
            unseen,
            model_checks.answers_given(region.name, found, task.benchmark),
            model_checks.labels_not_bent(region.name, found),
            model_checks.better_than_base(region.name, found.outcome, found.verdict),
            model_checks.nothing_forgotten(region.name, elsewhere),
            model_checks.enough_scores(region.name, predictions, task.answer),
        ],
    )


def _judged(model: Trained, clean: Table) -> Judged:
    return Judged(
        task=model.task,
        provider=model.provider,
        inputs=model.inputs | {"filtered_qa": content_hash(clean.path)},
        model=model.model,
        job_id=model.job_id,
    )


@stage(io="records", checks=[model_checks.CALIBRATION_HELPS, model_checks.PROMISE_KEPT])
def calibrator(region: Region, benchmark: pd.DataFrame, finetuned_model: Trained) -> Result:
    """Turn the model's scores into probabilities, or numbers into intervals; judged on the test split."""
    judged = Judged.of(region)
    require_same_model(region, finetuned_model, judged)
    region = replace(region, task=finetuned_model.task.applied_to(region.task))
    model, answer, metric = finetuned_model.model, region.task.answer, region.task.benchmark.metric
    test = calibration.evidence(benchmark, "test", answer, metric)
    known = calibration.evidence(benchmark, "calibration", answer, metric)
    fitted = calibration.fit(known, answer, model)
    found = calibration.judge(fitted, test, model)
    asked = region.task.benchmark
    rule = answering.fit(asked, fitted, known, answer)
    use = answering.judge(asked, rule, fitted, test, answer) if rule else None
    parts = calibration.judge_parts(fitted, benchmark, test, answer)
    chart, png = views.calibration_drawing(fitted, test)
    write_atomically(region.path("calibrator", ".png"), png)
    add_to_page(region, "use", sections.use(found, use, png, parts))
    return dg.MaterializeResult(
        value=Calibrated(
            task=finetuned_model.task,
            provider=finetuned_model.provider,
            inputs=judged.inputs,
            model=model,
            job_id=finetuned_model.job_id,
            calibrator=fitted,
            report=found,
            rule=rule,
            use=use,
            parts=parts,
            reference=in_use.reference(region, benchmark, fitted, rule),
            task_fingerprint=finetuned_model.task.fingerprint,
        ),
        metadata={
            "verdict": found.verdict,
            **({"use": str(use)} if use else {}),
            chart: views.picture(png, chart),
            "picture": views.page(region.path("calibrator", ".png")),
            **views.calibration_parts(parts),
            **views.calibration_numbers(found),
            "method": views.calibration_method(fitted),
            "job_id": finetuned_model.job_id,
            "model": model,
            "task_fingerprint": finetuned_model.task.fingerprint,
            "offered": reviews.offer_answers(region, benchmark, fitted),
            **({"warning": fitted.warning} if fitted.warning else {}),
        },
        check_results=[model_checks.calibration_helps(region.name, found), model_checks.promise_kept(region.name, use)],
    )
