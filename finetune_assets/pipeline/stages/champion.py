"""The asset `champion`: the model that answers for a region, after its checks and, where asked for, a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from finetune_assets.errors import RecordError
from finetune_assets.evaluation import promotion, promotion_policy
from finetune_assets.evaluation.benchmark import sections
from finetune_assets.evaluation.benchmark.report import BenchmarkReport
from finetune_assets.evaluation.promotion import Champion, Standing
from finetune_assets.evaluation.promotion_policy import Counted
from finetune_assets.pipeline.checks import use_checks
from finetune_assets.pipeline.checks.check import Check
from finetune_assets.pipeline.checks.model_checks import EVALUATED
from finetune_assets.pipeline.shown import views
from finetune_assets.pipeline.stage import Result, stage
from finetune_assets.pipeline.stages import in_use
from finetune_assets.pipeline.stages.registration import register
from finetune_assets.results.files import write_atomically
from finetune_assets.results.records import Calibrated, Judged, Trained, report_of, require_same_model
from finetune_assets.results.region import Region
from finetune_assets.results.standing import standing
from finetune_assets.task import Task

PROMOTED = Check("promoted", "The region's newest model is the one that answers for it.")
_SHOWN = ("since", "model", "metric", "value", "n_test", "way", "approved_by")


class PromotionChoice(dg.Config):
    """What a person decides about a region's models; nothing, where a run has no config."""

    approved_by: str = Field("", description="Who agrees that the newest model becomes the champion, or to going back.")
    roll_back_to: str = Field("", description="Name of an earlier champion that is to be the champion again.")


@stage(io="records", checks=[PROMOTED, EVALUATED, use_checks.PROMISE_STANDS, use_checks.NOT_DRIFTED])
def champion(region: Region, finetuned_model: Trained, calibrator: Calibrated, choice: PromotionChoice) -> Result:
    """Let the newest model answer for the region if its checks and, where asked for, a person agree; keep the history.

    To approve, materialise this asset with `approved_by` in the launchpad; to go back, with `roll_back_to`.
    """
    task, before = region.task, standing(region)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if choice.roll_back_to:
        after = promotion.roll_back(before, choice.roll_back_to, now, choice.approved_by)
    else:
        require_same_model(region, finetuned_model, calibrator, Judged.of(region))
        benchmark = report_of(region)
        newest = _newest(finetuned_model, benchmark, calibrator, now)
        reasons = promotion_policy.judge(
            task.policy,
            benchmark,
            calibrator.report,
            Counted(before.attempt(newest.model), tuple(_of_other_regions(region))),
            limits=(task.benchmark.max_failed, task.benchmark.max_unreadable),
            ignored=_ignored(task),
        )
        needs_approval = task.policy.by == "approval"
        after = promotion.consider(
            before, newest, reasons, needs_approval=needs_approval, approved_by=choice.approved_by
        )
    evaluated = EVALUATED.result(True, f"Region {region.name}: {finetuned_model.model} was evaluated.")
    add_to_page(region, "promotion", sections.promotion(after, finetuned_model.model))
    registered = {"calibrator_at_provider": register(task, after.champion)} if after.champion else {}
    return dg.MaterializeResult(
        value=after.to_dict(),
        metadata=_metadata(after) | registered,
        check_results=[_promoted(region.name, after), evaluated, *in_use.judged(region, after.champion)],
    )


def _ignored(task: Task) -> list[str]:
    return [name for name, severity in task.checks.items() if severity == "off"]


def _of_other_regions(region: Region) -> Iterator[float]:
    """Yield the p-values of the task's other regions, raised for their attempts; 1 of those without a benchmark."""
    own = region.path("benchmark", ".json")
    if region.task.regions == "discover":
        others = [path.name.removesuffix(".json") for path in own.parent.glob("*.json") if path.name != own.name]
    else:
        others = [name for name in region.task.regions if name != region.name]
    for name in others:
        other = replace(region, name=name)
        try:
            report = report_of(other)
        except RecordError:  # not made yet, or by an earlier version
            yield 1.0
            continue
        attempt = standing(other).attempt(report.fine_tuned.model)
        yield promotion_policy.raised(promotion_policy.gain_p(report, _ignored(region.task)), attempt)


def _newest(model: Trained, benchmark: BenchmarkReport, calibrator: Calibrated, now: str) -> Champion:
    """Put together what the use of a region's newest model needs, from the records of its stages."""
    kept = calibrator.model_dump(mode="json")
    best = benchmark.best_before
    return Champion(
        model=model.model,
        provider=model.provider.name,
        base_model=model.base_model,
        job_id=model.job_id,
        calibrator=kept["calibrator"],
        task_fingerprint=calibrator.task_fingerprint,
        metric=benchmark.primary,
        value=benchmark.decisive.fine_tuned.estimate,
        n_test=benchmark.n,
        since=now,
        way="checks",
        trained_at=model.submitted_at,
        rule=kept["rule"],
        reference=kept["reference"],
        address=model.provider.address,
        prompt=model.task.prompt.model_dump(mode="json"),
        answer=model.task.answer.model_dump(mode="json"),
        trained_on=model.inputs.get("train"),
        best=best is None or best.difference.estimate >= 0,
    )


def add_to_page(region: Region, place: sections.Place, section: str) -> None:
    """Put what a later stage found into the page of the region's benchmark, where there is one."""
    path = region.path("benchmark", ".html")
    if path.exists():
        write_atomically(path, sections.put_in(path.read_text("utf-8"), place, section).encode())


def _metadata(now: Standing) -> dict[str, Any]:
    table = pd.DataFrame([_shown(entry) for entry in reversed(now.history)], columns=list(_SHOWN))
    champion = now.champion.model if now.champion else "none yet"
    earlier = dict.fromkeys(entry.model for entry in reversed(now.history) if entry.model != champion)
    return {
        "champion": champion,
        **({"candidate": now.candidate} if now.candidate else {}),
        # Tables shorten long names; these are to be copied.
        **({"ways_back": ", ".join(earlier)} if earlier else {}),
        "decided": views.table(pd.DataFrame([reason.to_dict() for reason in now.reasons])),
        "history": views.table(table),
    }


def _shown(entry: Champion) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _SHOWN}


def _promoted(region: str, now: Standing) -> dg.AssetCheckResult:
    champion = now.champion.model if now.champion else "no model"
    if not now.candidate:
        return PROMOTED.result(True, f"Region {region}: {champion} answers for it.")
    why = "; ".join(now.objections)
    if now.candidate == champion:
        return PROMOTED.result(False, f"Region {region}: {champion} answers for it, but by now: {why}.")
    words = f"{now.candidate} is not its champion: {why}. Now {champion} answers for it."
    return PROMOTED.result(False, f"Region {region}: {words}")
