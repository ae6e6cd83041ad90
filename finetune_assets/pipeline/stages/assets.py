"""The assets of a task in order of flow: each calls the part that does the work and shows what came out.

Some have modules of their own: `human_feedback`, before `filtered_qa`, and from `benchmark` on those that judge.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field
from upath import UPath

from finetune_assets.asking import spending
from finetune_assets.asking.job import job_request
from finetune_assets.dataset.belonging.apart import leaks
from finetune_assets.dataset.belonging.memory import Memory
from finetune_assets.dataset.corrections import Reviewed
from finetune_assets.dataset.filtering import filter_examples
from finetune_assets.dataset.image_addresses import ImageAddresses
from finetune_assets.dataset.sampling import sample
from finetune_assets.dataset.sources import Digest, read, version
from finetune_assets.dataset.sources.noticed import notice
from finetune_assets.dataset.splits import groups_by_split
from finetune_assets.dataset.table import Table
from finetune_assets.errors import NoFreePlaceError
from finetune_assets.evaluation import charts
from finetune_assets.pipeline.checks import data_checks, model_checks
from finetune_assets.pipeline.shown import data_views, model_views, views
from finetune_assets.pipeline.stage import Result, asset_key, observation, stage
from finetune_assets.pipeline.stages import reviews
from finetune_assets.pipeline.stages.evaluating import benchmark, calibrator
from finetune_assets.pipeline.stages.human_feedback import keep_applied
from finetune_assets.pipeline.stages.source import SOURCE
from finetune_assets.provider import azure_deployment, fine_tuning, losses, months, pricing
from finetune_assets.provider.client import connect
from finetune_assets.provider.files import content_hash, upload_once
from finetune_assets.results.files import write_atomically, write_parquet
from finetune_assets.results.records import (
    FileWritten,
    ProviderThen,
    Submitted,
    TaskThen,
    Trained,
    Uploaded,
    Validated,
    Written,
)
from finetune_assets.results.region import Region
from finetune_assets.results.trained_on import note_trained
from finetune_assets.task.sources import window_of
from finetune_assets.training_file import jsonl, report, validation
from finetune_assets.training_file.target import nearest_target

SOURCE_FILES = "source_files"
"""Metadata of `sampled_examples`: the version of the source's files that were read."""
PROVIDER = "provider"
"""Metadata of `finetune_job`: whose job it is, as `asked_as` says it."""
SOURCE_ROWS = "source_rows"
"""And a hash of the region's own rows in them."""


class Drawing(dg.Config):
    """Whether the splits of before hold."""

    draw_anew: bool = Field(
        default=False,
        description="Forget how the examples were drawn before, and which of them have trained a model.",
    )


@stage(
    io="tables",
    checks=[
        data_checks.SPLIT_SIZES,
        data_checks.WHOLE_IMAGES,
        data_checks.SAME_RANGE,
        data_checks.CLEAR_NAMES,
        data_checks.GROUPS_DIVIDE,
        data_checks.UNSEEN_TEST,
        data_checks.CLOSE_NEIGHBOURS,
    ],
    deps=lambda task: [asset_key(task, SOURCE)],
)
def sampled_examples(region: Region, drawing: Drawing) -> Result:
    """Draw the region's examples into train, validation, calibration and test, and look at their images."""
    task, files, digest = region.task, version(region.task.source), Digest()
    remembered = region.path("sampled_examples", ".drawn.parquet")
    sampled = sample(
        digest.over(read(task.source, region.name, task.answer)),
        task.sampling,
        region.path("sampled_examples", ".parquet"),
        labels=data_views.answers(task.answer),
        near=task.filtering.near_duplicates,
        memory=Memory.empty() if drawing.draw_anew else Memory.read(remembered),
        addresses=ImageAddresses(region.images),
        window=window_of(task.source),
        say=dg.get_dagster_logger().info,
    )
    unseen = data_checks.unseen_test(region.name, sampled)
    if unseen.passed or data_checks.UNSEEN_TEST.severity(task) != "error":
        # Splits that go no further are not remembered: whoever goes back to the seed of before finds all as it was.
        sampled.memory.write(remembered)
    counts = data_views.counts(sampled.table, task.answer)
    noticed = notice(task.source, region.name, task.answer)
    return dg.MaterializeResult(
        value=sampled.table,
        metadata={
            "dagster/row_count": len(sampled.table),
            "rows_in_source": sampled.n_source,
            SOURCE_FILES: files,
            SOURCE_ROWS: str(digest),
            **data_views.drawing(sampled),
            **({"written": noticed.written} if noticed.written else {}),
            "by_split_and_label": views.table(counts.reset_index()),
            "answers": data_views.answer_chart(sampled.table, task.answer, counts),
            **data_views.ranges(sampled.table),
            **data_views.first_examples(sampled.table, sampled.n_near_duplicates),
        },
        check_results=[
            data_checks.split_sizes(region.name, counts, sampled.n_usable, task.sampling, sampled.published),
            data_checks.whole_images(region.name, sampled.table),
            data_checks.same_range(region.name, sampled.table),
            data_checks.clear_names(region.name, noticed.doubts),
            data_checks.groups_divide(region.name, sampled),
            unseen,
            data_checks.close_neighbours(region.name, sampled),
        ],
    )


@stage(
    io="tables",
    checks=[
        data_checks.ENOUGH_EXAMPLES,
        data_checks.GAIN_CAN_BE_SHOWN,
        data_checks.BOTH_ANSWERS,
        data_checks.NO_LEAKAGE,
        data_checks.LITTLE_QUARANTINE,
        data_checks.LIKELY_LABELS,
    ],
)
def filtered_qa(region: Region, sampled_examples: Table, human_feedback: pd.DataFrame) -> Result:
    """Keep the clean examples, labelled as reviewers decided; set doubtful and broken ones aside in the quarantine."""
    task = region.task
    reviewed = Reviewed.of(sampled_examples, human_feedback, task.answer)
    filtered = filter_examples(
        reviewed,
        task.answer,
        task.filtering,
        region.path("filtered_qa", ".parquet"),
        region.path("filtered_qa", ".quarantine.parquet"),
    )
    keep_applied(region, human_feedback)
    counts, groups = data_views.counts(filtered.clean, task.answer), groups_by_split(filtered.clean)
    n_test = int(counts.loc["test"].sum())
    return dg.MaterializeResult(
        value=filtered.clean,
        metadata={
            "dagster/row_count": len(filtered.clean),
            **data_views.quarantine(filtered),
            **data_views.reviewed(reviewed),
            "offered": reviews.offer_examples(region, filtered),
            "by_split_and_label": views.picture(charts.split_by_label(counts)),
        },
        check_results=[
            data_checks.enough_examples(region.name, counts, groups, filtered.by_reason),
            data_checks.gain_can_be_shown(region.name, n_test, groups["test"], task.benchmark.smallest_gain),
            data_checks.both_answers(region.name, counts, task.answer),
            data_checks.no_leakage(region.name, leaks(filtered.clean, task.filtering.near_duplicates)),
            data_checks.little_quarantine(region.name, len(filtered.quarantine), filtered.n_sampled),
            data_checks.likely_labels(region.name, filtered.label_errors),
        ],
    )


@stage(io="records", checks=[data_checks.SMALL_ENOUGH])
def training_jsonl(region: Region, filtered_qa: Table) -> Result:
    """Write the files that the provider trains on and validates with: chat format, images inlined.

    For reinforcement the right answers stand beside the conversations, for the grader.
    """
    prompt, answered = region.task.prompt, region.task.answer
    graded = region.task.method.type == "reinforcement"
    built = {
        split: jsonl.build(filtered_qa, prompt, split, region.training_file(split), answered=answered, graded=graded)
        for split in ("train", "validation")
    }
    written = {
        split: FileWritten(
            file=f"{split}.jsonl",
            n_examples=file.n_examples,
            bytes=file.bytes,
            sha256=content_hash(region.training_file(split)),
        )
        for split, file in built.items()
    }
    note_trained(region, filtered_qa, written["train"].sha256)
    return dg.MaterializeResult(
        value=Written(task=TaskThen.of(region.task), inputs={"filtered_qa": content_hash(filtered_qa.path)}, **written),
        metadata={
            "n_train": built["train"].n_examples,
            "n_validation": built["validation"].n_examples,
            "bytes": built["train"].bytes + built["validation"].bytes,
            "first_examples": data_views.chats(filtered_qa, region.task),
            "tokens_per_example": data_views.token_histogram(filtered_qa, region.task),
        },
        check_results=[
            data_checks.small_enough(
                region.name,
                [file.bytes for file in built.values()],
                nearest_target(region.task.provider, region.task.base_model),
            )
        ],
    )


@stage(io="records", checks=[data_checks.VALID_FORMAT, data_checks.WITHIN_BUDGET])
def validation_report(region: Region, training_jsonl: Written) -> Result:
    """Say what a provider would refuse in the files, what a reviewer should know, and what training will cost."""
    training_jsonl.require_same_question(region)
    task, train = region.task, region.training_file("train")
    target = nearest_target(task.provider, task.base_model)
    found = validation.validate(
        *(train, region.training_file("validation"), target, task.method.type),
        references=jsonl.references(Table(region.path("filtered_qa", ".parquet")), task.prompt),
    )
    n_examples = training_jsonl.train.n_examples
    estimate = spending.estimate(task, found.files[0].tokens_total, n_examples)
    compared = spending.against_retrieval(task, estimate, train, n_examples)
    arms = _arms(region, train, estimate.tokens, n_examples)
    preview = [example for _, example in islice(jsonl.lines(train), views.N_CHATS) if isinstance(example, dict)]
    sections = {"Fine-tuning or retrieval": model_views.comparison_section(compared)} if compared else {}
    page = report.to_html(found, preview, str(estimate), sections)
    write_atomically(region.path("validation_report", ".html"), page.encode())
    return dg.MaterializeResult(
        value=Validated(
            task=TaskThen.of(task),
            inputs=training_jsonl.hashes,
            ok=found.ok,
            files=found.to_dict()["files"],
            estimate=estimate,
            costs=compared,
        ),
        metadata={
            "errors": sum(sum(file.error_counts.values()) for file in found.files),
            "warnings": sum(sum(file.warning_counts.values()) for file in found.files),
            "findings": views.findings(found),
            "tokens": estimate.tokens,
            "estimate": str(estimate),
            **({"contest": ", ".join(map(str, arms))} if arms else {}),
            "prices": model_views.prices(pricing.prices_of(task)),
            **model_views.fine_tuning_or_retrieval(task, compared),
            "page": views.page(region.path("validation_report", ".html")),
        },
        check_results=[
            data_checks.valid_format(region.name, found),
            data_checks.within_budget(region.name, estimate.cost_usd, task.budget_of(region.name), arms),
        ],
    )


def _arms(region: Region, train: UPath, n_tokens: int, n_examples: int) -> list[spending.ArmCost]:
    """Estimate what asking the arms of the region's contest will cost."""
    arms = region.task.benchmark.contest
    if not arms:
        return []
    splits = Counter(Table(region.path("filtered_qa", ".parquet")).frame(["split"])["split"].tolist())
    return spending.contest(region.task, arms, splits, spending.length_of(train, n_tokens, n_examples))


@stage(io="records", checks=[model_checks.BASE_MODEL_STAYS])
def uploaded_file(region: Region, training_jsonl: Written, validation_report: Validated) -> Result:
    """Upload the files, once they are found valid; what the provider holds already is not sent again."""
    training_jsonl.require_same_question(region)
    validation_report.require_made_from(region, training_jsonl.hashes)
    client = connect(region.task.provider)
    uploaded = {split: upload_once(client, region.training_file(split)) for split in training_jsonl.hashes}
    training_jsonl.require_made_from(region, {split: file.sha256 for split, file in uploaded.items()})
    return dg.MaterializeResult(
        value=Uploaded(
            task=TaskThen.of(region.task),
            provider=ProviderThen.of(region.task, client),
            inputs=training_jsonl.hashes,
            **uploaded,
        ),
        metadata={"files": views.table(pd.DataFrame([{"split": s} | asdict(file) for s, file in uploaded.items()]))},
        check_results=[model_checks.base_model_stays(region.name, client, region.task)],
    )


class JobChoice(dg.Config):
    """Which job a region gets, where it is not to be the one that its files and settings ask for."""

    adopt: str = Field("", description="Id of a job that was made elsewhere: it is followed, and none is submitted.")
    train_again: bool = Field(False, description="Submit a job although there is one for the same files and settings.")


ATTEMPT = "attempt"
"""Metadata of a `finetune_job` that waits for a free place: what sets its job apart from an equal one, or ""."""


@stage(io="records")
def finetune_job(region: Region, uploaded_file: Uploaded, validation_report: Validated, choice: JobChoice) -> Result:
    """Submit the job once. The run does not wait for it: the sensor follows it and has it evaluated."""
    task = region.task
    client = connect(task.provider)
    uploaded_file.require_same_question(region)
    uploaded_file.require_same_provider(region, client)
    expected, attempt = validation_report.estimate.cost_usd, region.run_id if choice.train_again else ""
    request = job_request(task, region.name, uploaded_file.files, attempt, estimate_usd=expected)
    within_month = partial(months.require_within_month, client, task, expected, time.time())
    facts: dict[str, Any] = {
        "task": TaskThen.of(task),
        "provider": uploaded_file.provider,
        "fingerprint": request.fingerprint,
    }
    try:
        found = fine_tuning.adopt(client, request, choice.adopt) if choice.adopt else None
        found = found or fine_tuning.submit_once(client, request, task.max_open_jobs, within_month)
    except NoFreePlaceError as full:
        # The run ends well, and the sensor asks for another one when a place is free: no process waits for hours.
        waits = {"status": "waiting", "fingerprint": request.fingerprint}
        return dg.MaterializeResult(
            value=Submitted(inputs=uploaded_file.inputs, status="waiting", request=request.to_dict(), **facts),
            metadata={**waits, ATTEMPT: request.attempt, "why": f"{full}; the sensor submits it when a place is free"},
        )
    # What an adopted job was trained on is known to its provider alone.
    ours = not choice.adopt or found.job.training_file == uploaded_file.train.id
    submitted = Submitted(
        inputs=uploaded_file.inputs if ours else {},
        job_id=found.job.id,
        reused=found.reused,
        status=found.job.status,
        request=request.to_dict(),
        **facts,
    )
    return dg.MaterializeResult(
        value=submitted,
        metadata={
            "job_id": found.job.id,
            "fingerprint": request.fingerprint,
            "reused": found.reused,
            PROVIDER: submitted.provider.address,
            "status": found.job.status,
            "job": dg.MetadataValue.url(fine_tuning.job_url(client, found.job.id)),
            "estimate": str(validation_report.estimate),
            **({"notes": " ".join(found.notes)} if found.notes else {}),
        },
    )


class ModelChoice(dg.Config):
    """Which model of a job is taken."""

    # Not None: the launchpad's scaffold leaves out what has no value.
    checkpoint_step: int = Field(
        default=0, ge=0, description="Take the checkpoint at this training step; 0 is the model at the end."
    )


@stage(
    io="records",
    checks=[
        model_checks.JOB_SUCCEEDED,
        model_checks.TRAINING_CONVERGED,
        model_checks.NO_OVERFITTING,
        model_checks.ENOUGH_STEPS,
        model_checks.MODEL_STAYS,
    ],
)
def finetuned_model(region: Region, finetune_job: Submitted, choice: ModelChoice) -> Result:
    """Take the model that the job made, or one of its checkpoints, and show how its loss fell."""
    task = finetune_job.task.applied_to(region.task)
    client = connect(task.provider)
    if finetune_job.job_id is None:
        return observation(region, "finetuned_model", "its job waits for a free place; the sensor goes on with it")
    finetune_job.require_same_provider(region, client)
    job = fine_tuning.retrieve(client, finetune_job.job_id)
    verdict = model_checks.job_succeeded(region.name, job)
    if not verdict.passed:
        still_open = job.status not in fine_tuning.ENDED
        return observation(region, "finetuned_model", str(verdict.description)) if still_open else verdict
    found, step = losses.checkpoints(client, job), choice.checkpoint_step or None
    events = losses.events_of(client, job)
    steps = losses.loss_table(client, job, events)
    write_parquet(region.path("finetuned_model", ".losses.parquet"), steps)
    model = str(job.fine_tuned_model) if step is None else losses.checkpoint_at(found, job, step).model
    served = azure_deployment.serve_model(task, model, dg.get_dagster_logger().info)
    facts = {
        "model": served.model,
        "fine_tuned_model": model,
        "checkpoint_step": step,
        "base_model": job.model,
        "job_id": job.id,
        "trained_tokens": job.trained_tokens,
        "training_seconds": losses.training_seconds(job, events),
        "cost_usd": pricing.training_cost(task, job.trained_tokens or 0, epochs=1),
    }
    hyperparameters = job.hyperparameters.model_dump() if job.hyperparameters else {}
    submitted = datetime.fromtimestamp(job.created_at, UTC).isoformat(timespec="seconds")
    return dg.MaterializeResult(
        value=Trained(
            task=finetune_job.task,
            provider=finetune_job.provider,
            inputs=finetune_job.inputs,
            hyperparameters=hyperparameters,
            submitted_at=submitted,
            **facts,
        ),
        metadata={
            **{name: value for name, value in facts.items() if value is not None},
            **({"deployment": dg.MetadataValue.md(served.note)} if served.note else {}),
            "hyperparameters": views.settings(hyperparameters),
            **model_views.curves(steps),
            "checkpoints": model_views.checkpoints(found, step),
        },
        check_results=[
            verdict,
            *model_checks.training_went_well(region.name, steps, step),
            model_checks.model_stays(region.name, client, task, model, job.model),
        ],
    )


ASSETS = (
    sampled_examples,
    filtered_qa,
    training_jsonl,
    validation_report,
    uploaded_file,
    finetune_job,
    finetuned_model,
    benchmark,
    calibrator,
)
