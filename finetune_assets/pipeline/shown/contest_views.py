"""A contest of arms, as Dagster shows it."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pandas as pd

from finetune_assets.evaluation import charts
from finetune_assets.evaluation.arms.contest import Contest
from finetune_assets.evaluation.arms.result import ArmResult
from finetune_assets.evaluation.statistics import p_words
from finetune_assets.pipeline.shown import views


def picture(found: Contest) -> bytes:
    """Draw all arms, those with people last."""
    return charts.arms([*found.ranked, *found.with_people], found.label, found.advice.arm)


def metadata(found: Contest | None, png: bytes | None) -> dict[str, Any]:
    """Show the arms in their order, what is recommended, and who was left out; nothing without a contest."""
    if found is None:
        return {}
    first = found.ranked[0].name
    behind = {pair.worse: pair for pair in found.pairs if pair.better == first}
    rows = []
    for arm in (*found.ranked, *found.with_people):
        row = _row(arm)
        if pair := behind.get(arm.name):
            behind_by, least, most = (f"{100 * value:.1f}" for value in (pair.difference.estimate, pair.difference.low,
                                                                         pair.difference.high))  # fmt: skip
            row |= {"behind the first": f"{behind_by} ({least} to {most})", "p (Holm)": p_words(pair.p_value)}
        rows.append(row)
    table = views.table(pd.DataFrame(rows).fillna("")).value
    notes = [found.advice.words, *found.advice.changes]
    notes += [f"{one.name} was left out: {one.why}." for one in found.left_out]
    listed = "\n".join(f"- {views.harmless(note)}" for note in notes)
    return {
        "recommended_arm": found.advice.arm,
        "contest": dg.MetadataValue.md(f"{table}\n\n{listed}"),
        **({"arms": views.picture(png, "arms")} if png else {}),
    }


def _row(arm: ArmResult) -> dict[str, Any]:
    value, error = arm.value, arm.calibration_error
    seconds = "" if arm.p50_s is None or arm.p99_s is None else f"{arm.p50_s:.2f}, {arm.p99_s:.2f}"
    return {
        "arm": arm.name,
        "right, %": f"{100 * value.estimate:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})",
        "of": arm.n,
        "behind the first": "",
        "p (Holm)": "",
        "calibration error": "" if error is None else f"{error.estimate:.3f}",
        "p50, p99 (s)": seconds,
        "USD per 1,000": "" if arm.usd_per_1000 is None else f"{arm.usd_per_1000:,.2f}",
        "asked": arm.how,
    }
