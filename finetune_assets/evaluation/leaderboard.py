"""Regions of all tasks in one table: what fine-tuning gained in each, and whether that is more than chance.

One region in twenty would look better or worse by chance alone, so the p-values of a task's regions are adjusted for
there being several (Holm).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from finetune_assets.evaluation.html_page import fill
from finetune_assets.evaluation.statistics import Interval, Outcome, holm, outcome, p_words, signed_parts

HEADLINES: dict[Outcome, str] = {"better": "gain", "worse": "loss", "inconclusive": "no significant gain"}


@dataclass(frozen=True, slots=True)
class Row:
    """One region's benchmark; shares are 0 to 1."""

    task: str
    region: str
    n: int
    """Test examples."""
    metric: str
    """Name of the deciding metric, a share of right answers."""
    base: float
    fine_tuned: float
    difference: Interval
    """Fine-tuned minus base."""
    p_value: float
    p_holm: float
    """`p_value`, adjusted for the number of the task's regions."""
    outcome: Outcome
    """By the adjusted p-value."""
    over_baseline: Interval
    """Fine-tuned minus the best answer to everything."""
    base_model: str
    fine_tuned_model: str
    champion: str | None
    """The model that answers for the region."""
    champion_since: str | None
    cost_usd: float | None
    """Of training."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is known of an evaluated region: the records of its stages, as JSON."""

    task: str
    region: str
    benchmark: Mapping[str, Any]
    model: Mapping[str, Any]
    champion: Mapping[str, Any] | None
    """The last entry of its history."""


def leaderboard(regions: Sequence[Evaluated]) -> list[Row]:
    """Return a row for each region, the tasks by name, and the largest gain of each first."""
    adjusted: dict[int, float] = {}
    for task in {found.task for found in regions}:
        members = [k for k, found in enumerate(regions) if found.task == task]
        p_values = [regions[k].benchmark["p_value"] for k in members]
        adjusted |= dict(zip(members, holm(p_values).tolist(), strict=True))
    rows = [_row(found, adjusted[k]) for k, found in enumerate(regions)]
    return sorted(rows, key=lambda row: (row.task, -row.difference.estimate))


def to_html(rows: Sequence[Row], picture: str, link: Callable[[Row], str | None]) -> str:
    """Render the table as a page that loads nothing from anywhere.

    Args:
        rows: As `leaderboard` returns them.
        picture: The heat map, as a data URL.
        link: The address of a region's own page, or None.
    """
    return fill(
        Path(__file__).with_suffix(".html"),
        picture=picture,
        summary=escape(summary(rows)),
        rows="".join(_table_row(row, link(row)) for row in rows),
    )


def summary(rows: Sequence[Row]) -> str:
    """Say in one sentence what the table says."""
    gained, lost, unclear = (sum(row.outcome == found for row in rows) for found in HEADLINES)
    tasks = len({row.task for row in rows})
    of = f"{len(rows)} region{'' if len(rows) == 1 else 's'} of {tasks} task{'' if tasks == 1 else 's'}"
    champions = sum(row.champion is not None for row in rows)
    return f"{of}: {gained} gained, {lost} lost, {unclear} without a significant gain; {champions} with a champion."


def _row(found: Evaluated, p_holm: float) -> Row:
    report = found.benchmark
    name = report["primary"]
    decisive = report["comparisons"][name]
    difference = Interval(**decisive["difference"])
    champion = found.champion or {}
    return Row(
        task=found.task,
        region=found.region,
        n=report["n"],
        metric=name,
        base=decisive["base"]["estimate"],
        fine_tuned=decisive["fine_tuned"]["estimate"],
        difference=difference,
        p_value=report["p_value"],
        p_holm=p_holm,
        outcome=outcome(difference, p_holm),
        over_baseline=Interval(**report["over_baseline"]),
        base_model=report["base"]["model"],
        fine_tuned_model=report["fine_tuned"]["model"],
        champion=champion.get("model"),
        champion_since=champion.get("since"),
        cost_usd=found.model.get("cost_usd"),
    )


def _table_row(row: Row, address: str | None) -> str:
    region = f"{escape(row.task)}<br><b>{escape(row.region)}</b>"
    if address:
        region = f'<a href="{escape(address)}">{region}</a>'
    return "".join(
        [
            f'<tr class="{row.outcome}"><th scope="row">{region}</th>',
            f"<td>{row.n}</td>",
            f"<td>{100 * row.base:.1f}</td><td>{100 * row.fine_tuned:.1f}</td>",
            f"<td>{_change(row.difference)}<small>{HEADLINES[row.outcome]}, {escape(p_words(row.p_holm))}</small></td>",
            f"<td>{_change(row.over_baseline)}</td>",
            f"<td><code>{escape(row.champion or 'none')}</code><small>{_since(row)}</small></td></tr>",
        ]
    )


def _change(difference: Interval) -> str:
    change, low, high = signed_parts(difference, scale=100)
    return f"<b>{change}</b><small>{low} to {high}</small>"


def _since(row: Row) -> str:
    if row.champion is None:
        return "newest: " + escape(row.fine_tuned_model)
    newer = "" if row.champion == row.fine_tuned_model else f"; newest: {escape(row.fine_tuned_model)}"
    return f"since {(row.champion_since or '')[:10]}{newer}"
