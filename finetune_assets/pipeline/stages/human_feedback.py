"""The asset `human_feedback`: what reviewers decided about a region's examples, as `filtered_qa` applies it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from finetune_assets.dataset.corrections import DTYPES, changed
from finetune_assets.dataset.table import Table
from finetune_assets.pipeline.checks.check import Check
from finetune_assets.pipeline.shown import views
from finetune_assets.pipeline.stage import Result, stage
from finetune_assets.pipeline.stages import reviews
from finetune_assets.results.files import write_parquet
from finetune_assets.results.region import Region

if TYPE_CHECKING:
    from finetune_assets.feedback.store.agreement import Agreement, Estimate
    from finetune_assets.feedback.store.decisions import Decision

NEWEST_EVENT = "newest_event"
"""Metadata: number of the newest thing that reviewers had done here; 0 where nobody had."""
_NOBODY = "no feedback yet; open `finetune-assets feedback`"
LOW_ALPHA = 0.667
"""Below it Krippendorff would draw no conclusion, not even a tentative one."""
REVIEWERS_AGREE = Check(
    "reviewers_agree",
    "No example is left on which reviewers contradict each other, and they agree more than by chance.",
)


@stage(io="tables", checks=[REVIEWERS_AGREE])
def human_feedback(region: Region) -> Result:
    """Read what reviewers decided about the region's examples: corrected, rejected, or no longer in doubt."""
    db = reviews.opened()
    if db is None:
        return _result(region, [], "", {"feedback": reviews.NOT_INSTALLED, NEWEST_EVENT: 0}, 0, None)
    from finetune_assets.feedback.store.agreement import agreement
    from finetune_assets.feedback.store.decisions import decisions, newest_event, version, waiting
    from finetune_assets.feedback.store.queues import progress

    task = region.task.task
    with db:
        # First: what is said while the decisions are read is news to the sensor, at worst twice.
        newest = newest_event(db, task, region.name)
        found = decisions(db, task, region.name) if newest else []
        conflicts = progress(db, task, region.name, "conflicts", "").left if newest else 0
        agreed = agreement(db, task, region.name) if newest else None
        n_waiting = waiting(db, task, region.name) if newest else 0
    words: dict[str, Any] = {"feedback": _words(found) if newest else _NOBODY, NEWEST_EVENT: newest}
    if n_waiting:
        words["held_out_examples_waiting_for_a_second_blind_judgement"] = n_waiting
    return _result(region, found, version(found), words, conflicts, agreed)


def applied(region: Region) -> pd.DataFrame:
    """Return the decisions that `filtered_qa` has applied; an empty table where it never did."""
    return _kept(region, ".applied.parquet")


def keep_applied(region: Region, decisions: pd.DataFrame) -> None:
    """Remember what `filtered_qa` has applied, also where a later stage fails."""
    write_parquet(region.path("human_feedback", ".applied.parquet"), decisions)


def _kept(region: Region, ending: str) -> pd.DataFrame:
    path = region.path("human_feedback", ending)
    return Table(path).frame() if path.exists() else pd.DataFrame(columns=list(DTYPES)).astype(DTYPES)


def _result(
    region: Region,
    found: Sequence[Decision],
    version: str,
    words: Mapping[str, Any],
    conflicts: int,
    agreed: Agreement | None,
) -> dg.MaterializeResult:
    table = reviews.as_table(found)
    other = changed(_kept(region, ".parquet"), table)
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(version),
        metadata={
            "dagster/row_count": len(table),
            "changed_since_last_time": len(other),
            **words,
            **_tables(found, table, other),
            **_agreement(agreed),
        },
        check_results=[_reviewers_agree(region.name, conflicts, agreed)],
    )


def _words(found: Sequence[Decision]) -> str:
    rejected = sum(decision.verdict == "reject" for decision in found)
    return f"{len(found):,} examples are decided, {rejected:,} of them rejected"


def _tables(found: Sequence[Decision], table: pd.DataFrame, other: set[str]) -> dict[str, Any]:
    if not found:
        return {}
    by = Counter(reviewer for decision in found for reviewer in decision.reviewers)
    shown = table.loc[table["example_id"].isin(list(other)), ["example_id", "answer", "reviewed_by", "comment"]]
    return {
        "by_reviewer": views.table(pd.DataFrame(by.most_common(), columns=["reviewer", "decided"])),
        "changes": views.table(shown.assign(answer=shown["answer"].fillna("(rejected)"))),
    }


def _agreement(agreed: Agreement | None) -> dict[str, Any]:
    """Show how far reviewers agree on what several have judged; nothing where one alone works."""
    if agreed is None or not agreed.pairs:
        return {}
    rows = [
        {
            "reviewers": " and ".join(pair.reviewers),
            "both judged": pair.n,
            "agree": f"{pair.share:.0%}",
            "kappa": _estimate(pair.kappa),
        }
        for pair in agreed.pairs
    ]
    return {"agreement": views.table(pd.DataFrame(rows)), "krippendorff_alpha": _estimate(agreed.alpha)}


def _estimate(found: Estimate | None) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})" if found else "unknown"


def _reviewers_agree(region: str, conflicts: int, agreed: Agreement | None) -> dg.AssetCheckResult:
    wrong = []
    if conflicts:
        wrong.append(f"open conflicts: {conflicts}; decide them in the queue `conflicts` of `finetune-assets feedback`")
    if agreed and agreed.alpha and agreed.alpha.high < LOW_ALPHA:
        alpha = f"Krippendorff's alpha is {_estimate(agreed.alpha)} over {agreed.n} examples"
        wrong.append(f"{alpha}: tell reviewers more exactly what to answer")
    return REVIEWERS_AGREE.result(not wrong, f"Region {region}: {'; '.join(wrong) or 'nothing speaks against it'}.")
