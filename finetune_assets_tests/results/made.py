"""Records as stages leave them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from finetune_assets.asking.spending import Estimate
from finetune_assets.evaluation import answering, calibration
from finetune_assets.provider.files import UploadedFile
from finetune_assets.results.records import (
    Calibrated,
    ProviderThen,
    Submitted,
    TaskThen,
    Trained,
    Uploaded,
    Validated,
)
from finetune_assets.task import Task
from finetune_assets.task.judging import Benchmark


def trained_as(task: Task, model: str, **changes: Any) -> Trained:
    """What `finetuned_model` leaves of a model that was trained as the task says, any of its fields replaced."""
    fields: dict[str, Any] = {
        "task": TaskThen.of(task),
        "provider": ProviderThen(name=task.provider, address=task.provider),
        "inputs": {},
        "model": model,
        "fine_tuned_model": model,
        "checkpoint_step": None,
        "base_model": task.base_model,
        "job_id": f"job of {model}",
        "trained_tokens": None,
        "training_seconds": None,
        "cost_usd": None,
        "hyperparameters": {},
        "submitted_at": "2026-01-01T00:00:00+00:00",
    }
    return Trained.model_validate(fields | changes)


def calibrated_as(model: Trained, predictions: pd.DataFrame, **changes: Any) -> Calibrated:
    """What `calibrator` leaves of a model with these answers to its test, fitted on the same; fields replaced."""
    answer, asked = model.task.answer, Benchmark()
    known = calibration.evidence(predictions, "test", answer)
    fitted = calibration.fit(known, answer, model.model)
    rule = answering.fit(asked, fitted, known, answer)
    fields: dict[str, Any] = {
        **{name: getattr(model, name) for name in ("task", "provider", "inputs", "model", "job_id")},
        "calibrator": fitted,
        "report": calibration.judge(fitted, known, model.model),
        "rule": rule,
        "use": rule and answering.judge(asked, rule, fitted, known, answer),
        "parts": calibration.judge_parts(fitted, predictions, known, answer),
        "task_fingerprint": model.task.fingerprint,
    }
    return Calibrated.model_validate(fields | changes)


def uploaded_as(task: Task, file: dict[str, Any], address: str) -> Uploaded:
    """What `uploaded_file` leaves where both splits are one file at a provider of this address."""
    provider = ProviderThen(name=task.provider, address=address)
    held = UploadedFile(**file)
    return Uploaded(task=TaskThen.of(task), provider=provider, inputs={}, train=held, validation=held)


def submitted_as(task: Task, job_id: str, address: str) -> Submitted:
    """What `finetune_job` leaves of a job that was submitted at a provider of this address."""
    return Submitted(
        task=TaskThen.of(task),
        provider=ProviderThen(name=task.provider, address=address),
        inputs={},
        job_id=job_id,
        fingerprint="f",
        status="running",
        request={},
    )


def validated_as(task: Task, cost_usd: float | None = 0.0) -> Validated:
    """What `validation_report` leaves of a file that has no errors."""
    estimate = Estimate(tokens=1, epochs=1, cost_usd=cost_usd)
    return Validated(task=TaskThen.of(task), inputs={}, ok=True, files=[], estimate=estimate)
