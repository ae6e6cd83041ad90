"""The asset checks about a champion in use: whether it keeps what was promised, and is asked what it was judged on."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from finetune_assets.evaluation.deferral import DeferralReport, Kept
from finetune_assets.evaluation.drift import MIN_ASKED, MODERATE, Shift
from finetune_assets.pipeline.checks.check import Check

PROMISE_STANDS = Check(
    "promise_stands",
    "The champion's answers without a person are right as often as `benchmark.defer` promises: those of the test split "
    "by what reviewers say today, and those given in use that reviewers checked.",
    of=lambda task: task.benchmark.defer is not None,
)
NOT_DRIFTED = Check(
    "not_drifted",
    "What the champion is asked in use looks like the examples that it was judged on, and so do its scores.",
    of=lambda task: task.in_use.watch,
)
WINDOW_DAYS = 30
_SHOWN = 3


def promise_stands(region: str, today: DeferralReport | None, kept: Kept | None) -> dg.AssetCheckResult:
    """Judge the champion's answers; None is what nobody asked for or promised."""
    said = [*([f"by today's labels {today}"] if today else []), *([f"in use, {kept}"] if kept else [])]
    words, broken = "; ".join(said) or "nothing is promised of its champion", any(x.broken for x in (today, kept) if x)
    advice = (
        "; materialise calibrator and champion again for a threshold that holds, or train on what people have answered"
    )
    return PROMISE_STANDS.result(not broken, f"Region {region}: {words}{advice if broken else ''}.")


def not_drifted(region: str, shifts: Sequence[Shift]) -> dg.AssetCheckResult:
    """Judge what was asked in the last days."""
    if not shifts:
        words = f"fewer than {MIN_ASKED} questions in the last {WINDOW_DAYS} days: nothing can be said"
        return NOT_DRIFTED.result(True, f"Region {region}: {words}.")
    n, known = max(shift.n_asked for shift in shifts), max(shift.n_reference for shift in shifts)
    compared = f"{n:,} questions of the last {WINDOW_DAYS} days against {known:,} held-out examples"
    drifted = [shift for shift in shifts if shift.is_drift]
    if not drifted:
        largest = f"the largest shift is of the {shifts[0]}" if shifts[0].index.estimate > 0 else "there is no shift"
        return NOT_DRIFTED.result(True, f"Region {region}: {compared}: no drift (index below {MODERATE}); {largest}.")
    more = f"; and {len(drifted) - _SHOWN} more" if len(drifted) > _SHOWN else ""
    named = "; ".join(map(str, drifted[:_SHOWN])) + more
    advice = "look at what is asked, and add such examples to the source before its probabilities are relied on"
    return NOT_DRIFTED.result(False, f"Region {region}: {compared}: drifted: {named}. {advice.capitalize()}.")


def not_known(check: Check, region: str, why: str) -> dg.AssetCheckResult:
    """Say that nothing could be found out."""
    return check.result(False, f"Region {region}: whether it holds is not known: {why}.")
