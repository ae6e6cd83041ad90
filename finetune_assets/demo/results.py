"""What a demo has made, as its summary says it and as a table."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from upath import UPath

from finetune_assets.demo.progress import STAGES, RegionState
from finetune_assets.processes import VAR, our_command
from finetune_assets.results.files import address
from finetune_assets.results.region import default_root
from finetune_assets.task import Task
from finetune_assets.task.arms import WITHOUT_NETWORK, unfit

SUMMARY = VAR / "demo" / "summary.json"


def output(task: Task, stage: str, region: str) -> UPath:
    """Return where a stage keeps what it made of a region."""
    tables = ("sampled_examples", "human_feedback", "filtered_qa", "benchmark")
    return UPath(default_root()) / task.task / stage / f"{region}.{'parquet' if stage in tables else 'json'}"


def read(task: Task, stage: str, region: str) -> dict[str, Any]:
    """Read the record that a stage made of a region."""
    return json.loads(output(task, stage, region).with_suffix(".json").read_text())


def results(task: Task, region: str) -> dict[str, Any]:
    """Return a region's part of the summary."""
    files, model = read(task, "training_jsonl", region), read(task, "finetuned_model", region)
    found, calibrator = read(task, "benchmark", region), read(task, "calibrator", region)
    decisive, before, after = found["comparisons"][found["primary"]], *_calibration_errors(calibrator["report"])
    return {
        "region": region,
        "base_model": model["base_model"],
        "fine_tuned_model": model["model"],
        "n_train": files["train"]["n_examples"],
        "n_validation": files["validation"]["n_examples"],
        "n_calibration": calibrator["calibrator"]["n"],
        "n_test": found["n"],
        "metric": found["primary"],
        "base": decisive["base"]["estimate"],
        "fine_tuned": decisive["fine_tuned"]["estimate"],
        "difference": decisive["difference"]["estimate"],
        "difference_ci95": [decisive["difference"]["low"], decisive["difference"]["high"]],
        "p_value": found["p_value"],
        "ece_before": before["ece"],
        "ece_after": after["ece"],
        "brier_before": before["brier"],
        "brier_after": after["brier"],
        "trained_tokens": model["trained_tokens"],
        "training_seconds": model["training_seconds"],
        **({"arms": _arms(found["contest"])} if "contest" in found else {}),
    }


def has_contest(task: Task, region: str) -> bool:
    """Whether a region's benchmark has asked every arm that needs no network."""
    if not output(task, "benchmark", region).with_suffix(".json").exists():
        return False
    found = read(task, "benchmark", region).get("contest") or {}
    asked = {one["kind"] for part in ("ranked", "with_people") for one in found.get(part, ())}
    wanted = {arm.kind for arm in WITHOUT_NETWORK if not unfit(arm, task.answer.kind)}
    return wanted <= asked | {one["name"] for one in found.get("left_out", ())}


def _arms(contest: dict[str, Any]) -> dict[str, Any]:
    """Return what the summary says of a contest: each arm, and which one to take."""
    fields = ("name", "model", "n", "n_handed", "p50_s", "p99_s", "usd_per_1000")
    ranked = [
        {field: arm[field] for field in fields}
        | {"value": arm["value"]["estimate"], "ci95": [arm["value"]["low"], arm["value"]["high"]]}
        | {"ece": (arm["calibration_error"] or {}).get("estimate")}
        for part in ("ranked", "with_people")
        for arm in contest[part]
    ]
    return {"take": contest["advice"]["arm"], "arms": ranked, "left_out": contest["left_out"]}


def _calibration_errors(report: dict[str, Any]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Calibration error and Brier score before and after; None of numbers, which have intervals and no probability."""
    if "before" not in report:
        return {"ece": None, "brier": None}, {"ece": None, "brier": None}
    before, after = report["before"], report["after"]
    return (
        {"ece": before["ece"]["estimate"], "brier": before["brier"]},
        {"ece": after["ece"]["estimate"], "brier": after["brier"]},
    )


def show(summary: dict[str, Any], states: list[RegionState], console: Console) -> None:
    """Print the summary as a table, the regions that failed, and where there is more to see."""
    table = Table(
        "region", "n test", "metric", "base", "fine-tuned", "difference [95 %]", "p", "calibration error", "Brier score"
    )
    for row in summary["regions"]:
        low, high = row["difference_ci95"]
        table.add_row(
            row["region"],
            str(row["n_test"]),
            row["metric"],
            f"{row['base']:.3f}",
            f"{row['fine_tuned']:.3f}",
            f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{row['p_value']:.2g}",
            _change(row["ece_before"], row["ece_after"]),
            _change(row["brier_before"], row["brier_after"]),
        )
    console.print(table)
    _show_arms(summary["regions"], console)
    if summary["clock"]:
        _show_clock(summary["clock"], console)
    for state in states:
        if state.failure:
            console.print(f"[red]{state.region} failed:[/red] {state.failure}", highlight=False)
    where = f" Summary: {SUMMARY}." if SUMMARY.exists() else ""
    console.print(f"{summary['wall_seconds']} s.{where} `{our_command('ui')}` shows all of it.", highlight=False)
    if (page := UPath(default_root()) / "leaderboard.html").exists():
        console.print(f"In the browser, without Dagster: {address(page)}", highlight=False)


def _show_arms(regions: list[dict[str, Any]], console: Console) -> None:
    """Print how often each arm was right, where arms were asked."""
    if not any("arms" in row for row in regions):
        return
    table = Table("region", "arm", "right [95 %]", "calibration error", "p50, p99 (s)", "USD per 1,000")
    for row in regions:
        for arm in row.get("arms", {"arms": ()})["arms"]:
            low, high = arm["ci95"]
            people = f", {arm['n_handed']} to people" if arm["n_handed"] and arm["n"] < row["n_test"] else ""
            table.add_row(
                row["region"],
                f"{arm['name']}{' (take this)' if arm['name'] == row['arms']['take'] else ''}",
                f"{arm['value']:.3f} [{low:.3f}, {high:.3f}]{people}",
                "" if arm["ece"] is None else f"{arm['ece']:.3f}",
                "" if arm["p50_s"] is None else f"{arm['p50_s']:.2f}, {arm['p99_s']:.2f}",
                "" if arm["usd_per_1000"] is None else f"{arm['usd_per_1000']:.2f}",
            )
    console.print(table)


def _show_clock(clock: dict[str, Any], console: Console) -> None:
    """Print how many seconds each stage took in each region."""
    table = Table("seconds", *clock["regions"])
    table.add_row("Dagster and the server start", *[f"{clock['start']:.0f}"] * len(clock["regions"]))
    for stage in STAGES:
        took = [seconds.get(stage) for seconds in clock["regions"].values()]
        label = "finetuned_model, with its training" if stage == "finetuned_model" else stage
        table.add_row(label, *("" if seconds is None else f"{seconds:.0f}" for seconds in took))
    console.print(table)


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{before:.3f} -> {after:.3f}"
