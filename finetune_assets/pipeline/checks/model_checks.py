"""The asset checks about the model itself: how its training went, whether it answers, and how long it will be there.

They warn, unless the task says otherwise: a bad curve is for a person to judge, and the benchmark decides. One that
hardly answers is stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import dagster as dg
import pandas as pd

from finetune_assets.asking.predictions import CALIBRATED
from finetune_assets.evaluation import training_curve
from finetune_assets.evaluation.answering import UseReport
from finetune_assets.evaluation.benchmark.report import BenchmarkReport, Forgetting
from finetune_assets.evaluation.calibration import evidence
from finetune_assets.evaluation.calibration.conformal import CoverageReport
from finetune_assets.evaluation.calibration.report import CalibrationReport
from finetune_assets.evaluation.statistics import Outcome
from finetune_assets.pipeline.checks.check import Check
from finetune_assets.provider import fine_tuning, lifecycle
from finetune_assets.provider.client import Client
from finetune_assets.task import Task
from finetune_assets.task.answers import Answer, NumberAnswer
from finetune_assets.task.judging import Benchmark

MIN_SCORED_GROUPS = 2
"""Of fewer no interval can be given."""
JOB_SUCCEEDED = Check("job_succeeded", "The fine-tuning job ended with a model.", blocking=True)
BETTER_THAN_BASE = Check(
    "better_than_base", "The fine-tuned model is significantly more often right than the base model."
)
NOTHING_FORGOTTEN = Check(
    "nothing_forgotten", "The fine-tuned model answers other questions than its region's no worse than the base model."
)
ENOUGH_SCORES = Check("enough_scores", "There are scores to calibrate and to judge the calibration by.", blocking=True)
CALIBRATION_HELPS = Check(
    "calibration_helps",
    "Calibrated probabilities are no worse than the model's own; intervals hold as many numbers as they say.",
)
_SEEN = (
    "Go back to the seed and amounts that it was drawn with, or materialise the region anew from sampled_examples; a "
    "champion that has seen the test is left out of the comparison where the YAML says `checks: {never_seen: warn}`"
)
TRAINING_CONVERGED = Check(
    "training_converged", "The training loss stayed a finite number and ended no higher than it began."
)
NO_OVERFITTING = Check(
    "no_overfitting", "The validation loss did not rise from its lowest while the training loss went on falling."
)
ENOUGH_STEPS = Check("enough_steps", f"The job trained for at least {training_curve.MIN_STEPS} steps.")

NEVER_SEEN = Check(
    "never_seen",
    "No example of the test has trained the model, nor the champion that it is compared with.",
    blocking=True,
)
ANSWERS_GIVEN = Check(
    "answers_given",
    "The fine-tuned model answers: few requests fail (`benchmark.max_failed`), few answers are unreadable "
    "(`benchmark.max_unreadable`).",
    blocking=True,
)
LABELS_NOT_BENT = Check(
    "labels_not_bent",
    "Test labels that were not changed by blind review were not changed towards the fine-tuned model.",
    blocking=True,
)
EVALUATED = Check("evaluated", "The model of the region's newest job was evaluated; what fails is tried again first.")
PROMISE_KEPT = Check(
    "promise_kept",
    "On the test split of today, answers are as `benchmark.operating_point` and `benchmark.defer` ask.",
)
BASE_MODEL_STAYS = Check(
    "base_model_stays", "No end is announced, neither of the base model nor of new jobs at its provider."
)
MODEL_STAYS = Check("model_stays", "No shutdown of the fine-tuned model or its base is announced.")


def job_succeeded(region: str, job: fine_tuning.Job) -> dg.AssetCheckResult:
    """Judge the state of the job, in the provider's words where it failed."""
    return JOB_SUCCEEDED.result(job.status == "succeeded", f"Region {region}: {job_verdict(job)}")


def job_verdict(job: fine_tuning.Job) -> str:
    """Say how a job stands, and what to do where it has no model."""
    if job.status == "succeeded":
        return f"job {job.id} made {job.fine_tuned_model}."
    if job.status in fine_tuning.FAILED:
        reason = fine_tuning.failure_reason(job)
        return f"job {job.id} {job.status}: {reason}. Materialise finetune_job again for a new job."
    return f"job {job.id} is still {job.status}; the sensor goes on when it has succeeded."


def better_than_base(region: str, outcome: Outcome, verdict: str) -> dg.AssetCheckResult:
    """Judge the benchmark's comparison."""
    return BETTER_THAN_BASE.result(outcome == "better", f"Region {region}: {verdict}")


def nothing_forgotten(region: str, found: Sequence[Forgetting]) -> dg.AssetCheckResult:
    """Judge the answers to questions that the model was not trained for."""
    words = "; ".join(map(str, found)) or "the task asks no other questions"
    return NOTHING_FORGOTTEN.result(all(one.outcome != "worse" for one in found), f"Region {region}: {words}.")


def enough_scores(region: str, predictions: pd.DataFrame, answer: Answer) -> dg.AssetCheckResult:
    """Judge whether the fine-tuned model's scores suffice to fit a calibrator and to judge it."""
    found = {split: evidence(predictions, split, answer) for split in CALIBRATED}
    counts = ", ".join(f"{len(scores)} in {split}" for split, scores in found.items())
    enough = all(len(set(scores.groups)) >= MIN_SCORED_GROUPS for scores in found.values())
    why = "; a model that answers in other words than the task's, and a provider without log-probabilities, give none"
    if isinstance(answer, NumberAnswer):
        why = "; a model that answers without a number gives none"
    words = (
        f"Region {region} has these scores of the fine-tuned model: {counts}; {MIN_SCORED_GROUPS} of different groups"
    )
    return ENOUGH_SCORES.result(enough, f"{words} are needed in each{'' if enough else why}.")


def calibration_helps(region: str, report: CalibrationReport | CoverageReport) -> dg.AssetCheckResult:
    """Judge the calibrated probabilities, or the intervals around numbers, on the test split."""
    return CALIBRATION_HELPS.result(report.outcome != "worse", f"Region {region}: {report.verdict}")


def training_went_well(region: str, losses: pd.DataFrame, step: int | None = None) -> list[dg.AssetCheckResult]:
    """Judge a training by its losses: whether it diverged, overfitted or was short.

    What came after `step` says nothing about the checkpoint there; None judges the model at the end.
    """
    trained = losses if step is None else losses.loc[losses["step"] <= step]
    return [
        _result(
            TRAINING_CONVERGED,
            region,
            training_curve.divergence(trained),
            "lower learning_rate_multiplier, or look for broken examples; the model is hardly of use",
        ),
        _result(
            NO_OVERFITTING,
            region,
            training_curve.overfitting(trained),
            "take an earlier checkpoint (checkpoint_step in the run's config), train fewer epochs or on more examples",
        ),
        _result(
            ENOUGH_STEPS,
            region,
            training_curve.too_short(trained),
            f"at least {training_curve.MIN_STEPS} are usual: raise n_epochs, lower batch_size or add examples",
        ),
    ]


def never_seen(region: str, found: Mapping[str, int | None]) -> dg.AssetCheckResult:
    """Judge whether models are judged by what they have seen.

    Args:
        region: Whose test it is.
        found: Examples of the test that have trained a model, by its name; None where nobody noted its examples.
    """
    if seen := {model: n for model, n in found.items() if n}:
        words = "; ".join(
            f"{n} examples of the test have trained {model}, or belong to such" for model, n in seen.items()
        )
        return NEVER_SEEN.result(False, f"Region {region}: {words}. {_SEEN}.")
    unknown = [model for model, n in found.items() if n is None]
    if unknown:
        words = f"what trained {' and '.join(unknown)} was not noted, so that nobody knows whether it has seen the test"
        return NEVER_SEEN.result(False, f"Region {region}: {words}.", dg.AssetCheckSeverity.WARN)
    return NEVER_SEEN.result(True, f"Region {region}: no example of the test has trained {' or '.join(found)}.")


def answers_given(region: str, report: BenchmarkReport, limits: Benchmark) -> dg.AssetCheckResult:
    """Judge how many test questions the fine-tuned model answered, and so that the answer can be read."""
    model, n = report.fine_tuned, report.n
    good = model.n_failed <= limits.max_failed * n and model.n_unparseable <= limits.max_unreadable * n
    words = (
        f"Region {region}: of {n} requests of the fine-tuned model {model.n_failed} failed "
        f"({limits.max_failed:.0%} may) and {model.n_unparseable} answers could not be read "
        f"({limits.max_unreadable:.0%} may)"
    )
    advice = "" if good else "; see `text` and `error` of its predictions, or raise the limits under `benchmark`"
    return ANSWERS_GIVEN.result(good, f"{words}{advice}.")


def labels_not_bent(region: str, report: BenchmarkReport) -> dg.AssetCheckResult:
    """Judge the test labels that reviewers changed."""
    labels = report.by_source_labels
    if labels is None:
        return LABELS_NOT_BENT.result(True, f"Region {region}: reviewers changed no label of the test.")
    advice = ""
    if labels.bent:
        advice = (
            f"; {labels.n_seeing_towards} of these were changed by reviewers who may have seen what a model says, and "
            f"only {labels.n_seeing_away} the other way: have them judged blind (`finetune-assets feedback`)"
        )
    return LABELS_NOT_BENT.result(not labels.bent, f"Region {region}: {labels}{advice}.")


def promise_kept(region: str, use: UseReport | None) -> dg.AssetCheckResult:
    """Judge what the task asks of the use of probabilities; new feedback may break what once held."""
    if use is None:
        return PROMISE_KEPT.result(True, f"Region {region}: numbers have intervals, and no probabilities.")
    words = "; ".join(use.broken) or str(use) or "the task asks for no operating point and leaves no answer to a person"
    return PROMISE_KEPT.result(not use.broken, f"Region {region}: {words}")


def base_model_stays(region: str, client: Client, task: Task) -> dg.AssetCheckResult:
    """Judge, before a training is paid for, whether its result will last."""
    ends = (
        lifecycle.new_jobs_end(task.provider),
        lifecycle.training_end(client, task.base_model),
        lifecycle.shutdown(client, task.provider, task.base_model),
    )
    announced = [ending.in_words(_today()) for ending in ends if ending]
    if not announced:
        return BASE_MODEL_STAYS.result(True, f"Region {region}: no shutdown of {task.base_model} is announced.")
    advice = "What is trained on it goes with it: take a model or a provider that stays"
    days_left = min(ending.days_left(_today()) for ending in ends if ending)
    words = f"Region {region}: {'; '.join(announced)}. {advice}."
    return BASE_MODEL_STAYS.result(False, words, metadata={"days_left": days_left})


def model_stays(region: str, client: Client, task: Task, model: str, base: str) -> dg.AssetCheckResult:
    """Judge how long the fine-tuned model can be asked."""
    ending = lifecycle.shutdown(client, task.provider, model, base)
    if not ending:
        return MODEL_STAYS.result(True, f"Region {region}: no shutdown of {model} is announced.")
    advice = (
        f"`finetune-assets migrate {task.task} --to local` trains and compares its successor while both can be asked"
    )
    words = f"Region {region}: {ending.in_words(_today())}. {advice}."
    return MODEL_STAYS.result(False, words, metadata={"days_left": ending.days_left(_today())})


def _today() -> date:
    return datetime.now(UTC).date()


def _result(check: Check, region: str, found: training_curve.Finding, advice: str) -> dg.AssetCheckResult:
    return check.result(found.good, f"Region {region}: {found.words}{'' if found.good else f'; {advice}'}.")
