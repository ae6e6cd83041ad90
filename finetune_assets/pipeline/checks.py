"""The asset checks of a task: what stops a region before money is spent, and what a person should look at.

A blocking check that fails ends the region's run; the others warn. Each message names the region, what was found and
what is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
import pandas as pd

from finetune_assets.dataset.splits import Leak
from finetune_assets.evaluation.calibration import CalibrationReport
from finetune_assets.evaluation.statistics import Outcome
from finetune_assets.pipeline.predictions import CALIBRATED, fine_tuned_scores
from finetune_assets.provider import fine_tuning
from finetune_assets.task import SPLITS, BinaryAnswer
from finetune_assets.training_file.findings import Report

MIN_TRAINING_EXAMPLES = 10
"""What OpenAI asks of a training file; below it a job is refused."""
MAX_QUARANTINE_SHARE = 0.25


@dataclass(frozen=True)
class Check:
    """A named question about one region's asset."""

    name: str
    description: str
    blocking: bool = False

    def spec(self, key: dg.AssetKey, partitions: dg.PartitionsDefinition) -> dg.AssetCheckSpec:
        """Declare the check on an asset, with one result for each region."""
        return dg.AssetCheckSpec(
            self.name, asset=key, description=self.description, blocking=self.blocking, partitions_def=partitions
        )

    def result(self, passed: bool, words: str, severity: dg.AssetCheckSeverity | None = None) -> dg.AssetCheckResult:
        """Answer it. What does not block is a warning, unless said otherwise."""
        usual = dg.AssetCheckSeverity.ERROR if self.blocking else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(passed=passed, check_name=self.name, description=words, severity=severity or usual)


ENOUGH_EXAMPLES = Check(
    "enough_examples",
    f"At least {MIN_TRAINING_EXAMPLES} examples to train on, and at least one in every other split.",
    blocking=True,
)
BOTH_ANSWERS = Check(
    "both_answers", "Both answers occur in what trains, calibrates and tests the model.", blocking=True
)
NO_LEAKAGE = Check("no_leakage", "No image and no group of examples is in two splits.", blocking=True)
LITTLE_QUARANTINE = Check(
    "little_quarantine", f"At most {MAX_QUARANTINE_SHARE:.0%} of the sampled examples were set aside."
)
VALID_FORMAT = Check("valid_format", "The training files hold nothing that a provider refuses.", blocking=True)
WITHIN_BUDGET = Check("within_budget", "The estimated cost of training is within the task's budget.", blocking=True)
JOB_SUCCEEDED = Check("job_succeeded", "The fine-tuning job ended with a model.", blocking=True)
BETTER_THAN_BASE = Check(
    "better_than_base", "The fine-tuned model is significantly more often right than the base model."
)
ENOUGH_SCORES = Check(
    "enough_scores", "There are scores to calibrate, and to judge the calibration by, of both answers.", blocking=True
)
CALIBRATION_HELPS = Check("calibration_helps", "Calibrated probabilities are no worse than the model's own.")


def enough_examples(region: str, clean: pd.DataFrame) -> dg.AssetCheckResult:
    """Judge the number of clean examples in each split."""
    counts = Counter(clean["split"])
    found = ", ".join(f"{counts[split]} for {split}" for split in SPLITS)
    enough = counts["train"] >= MIN_TRAINING_EXAMPLES and all(counts[split] for split in SPLITS)
    need = f"at least {MIN_TRAINING_EXAMPLES} for train and 1 for every other split are needed"
    advice = "" if enough else "; add labelled examples, or sample a larger share of them"
    return ENOUGH_EXAMPLES.result(enough, f"Region {region} has {found}; {need}{advice}.")


def both_answers(region: str, clean: pd.DataFrame, answer: BinaryAnswer) -> dg.AssetCheckResult:
    """Judge whether the splits that teach, calibrate and test hold both answers."""
    there = set(zip(clean["split"], clean["answer"], strict=True))
    lacking = [
        f"{split} has no {word!r}"
        for split in ("train", "calibration", "test")
        for word in (answer.positive, answer.negative)
        if (split, word) not in there
    ]
    words = "; ".join(lacking) or f"every split has {answer.positive!r} and {answer.negative!r}"
    return BOTH_ANSWERS.result(not lacking, f"Region {region}: {words}.")


def no_leakage(region: str, leaks: Sequence[Leak]) -> dg.AssetCheckResult:
    """Judge what two splits have in common."""
    words = f"{len(leaks)} images or groups are in two splits, first {leaks[0]}" if leaks else "nothing in two splits"
    return NO_LEAKAGE.result(not leaks, f"Region {region}: {words}.")


def little_quarantine(region: str, n_quarantined: int, n_sampled: int) -> dg.AssetCheckResult:
    """Judge the share of the sampled examples that were set aside."""
    share = n_quarantined / max(n_sampled, 1)
    words = f"Region {region}: {n_quarantined} of {n_sampled} sampled examples ({share:.0%}) were set aside"
    return LITTLE_QUARANTINE.result(share <= MAX_QUARANTINE_SHARE, f"{words}; {MAX_QUARANTINE_SHARE:.0%} are usual.")


def valid_format(region: str, report: Report) -> dg.AssetCheckResult:
    """Judge the errors in the training files."""
    errors = [(file, error) for file in report.files for error in file.errors]
    if not errors:
        return VALID_FORMAT.result(True, f"Region {region}: no errors.")
    file, error = errors[0]
    first = f"{file.path} line {error.line}: {error.message} ({error.code})"
    return VALID_FORMAT.result(False, f"Region {region}: {len(errors)} errors, the first in {first}.")


def within_budget(region: str, cost_usd: float | None, budget_usd: float | None) -> dg.AssetCheckResult:
    """Judge the estimated cost; an unknown price under a budget is a warning, since it may well be fine."""
    if budget_usd is None:
        return WITHIN_BUDGET.result(True, f"Region {region}: the task sets no budget.")
    if cost_usd is None:
        words = f"Region {region}: the price of this model is not known, so nobody checked the {budget_usd:.2f} USD."
        return WITHIN_BUDGET.result(False, words, dg.AssetCheckSeverity.WARN)
    words = f"Region {region}: training will cost about {cost_usd:.2f} USD, the budget is {budget_usd:.2f} USD"
    advice = "." if cost_usd <= budget_usd else "; raise budget_usd, sample fewer examples or train fewer epochs."
    return WITHIN_BUDGET.result(cost_usd <= budget_usd, words + advice)


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


def enough_scores(region: str, predictions: pd.DataFrame, answer: BinaryAnswer) -> dg.AssetCheckResult:
    """Judge whether the fine-tuned model's scores suffice for a calibrator."""
    counts = {split: Counter(fine_tuned_scores(predictions, split, answer)["y"]) for split in CALIBRATED}
    found = ", ".join(f"{n[True]} where it is true and {n[False]} where not in {split}" for split, n in counts.items())
    enough = all(n[True] and n[False] for n in counts.values())
    why = "; a model that answers with other words, and a provider without log-probabilities, give no scores"
    words = f"Region {region} has these scores of {answer.positive!r}: {found}; each needs some{'' if enough else why}."
    return ENOUGH_SCORES.result(enough, words)


def calibration_helps(region: str, report: CalibrationReport) -> dg.AssetCheckResult:
    """Judge the calibrated probabilities on the test split."""
    return CALIBRATION_HELPS.result(report.outcome != "worse", f"Region {region}: {report.verdict}")
