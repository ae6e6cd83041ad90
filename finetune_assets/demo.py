"""The demo: one task from its source to calibrated models, through a real Dagster and a real fine-tuning server.

A backfill makes the stages up to the submitted job; the sensor does the rest as the jobs succeed. What an earlier demo
made for the same task is shown again instead.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from upath import UPath

from finetune_assets.dagster_client import DagsterClient
from finetune_assets.pipeline.leaderboard import write_leaderboard
from finetune_assets.pipeline.partitions import register_regions
from finetune_assets.pipeline.resources import default_root
from finetune_assets.pipeline.stage import EVALUATE, PREPARE, task_fingerprint
from finetune_assets.processes import VAR, dagster, dagster_home, fine_tuning_server, free_port
from finetune_assets.provider import fine_tuning
from finetune_assets.provider.client import Client, connect
from finetune_assets.task import Task, readable_tasks

STAGES = [*PREPARE, *EVALUATE]
SUMMARY = VAR / "demo" / "summary.json"
_POLL_SECONDS = 2.0


@dataclass
class RegionState:
    """How far one region is."""

    region: str
    made: set[str] = field(default_factory=set)
    """Stages made since the demo began."""
    training: fine_tuning.Progress | None = None
    failure: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.failure is not None or self.made.issuperset(STAGES)

    @property
    def now(self) -> str:
        """What is going on, in words."""
        if self.failure:
            return "failed"
        following = next((stage for stage in STAGES if stage not in self.made), None)
        if following is None:
            return "done"
        if following == "finetuned_model" and self.training:
            return f"training: {self.training}"
        return following

    @property
    def remaining(self) -> str:
        """Time until the training ends, where the provider says."""
        finish = self.training.estimated_finish if self.training and "finetuned_model" not in self.made else None
        return f"{max(0, finish - int(time.time()))} s" if finish else ""


class Display:
    """A table that moves on a terminal; elsewhere a line whenever something has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, states: list[RegionState]) -> None:
        """Show how far all regions are."""
        if self._live:
            table = Table("region", "stages made", "now", "training ends in")
            for state in states:
                table.add_row(state.region, f"{len(state.made)} of {len(STAGES)}", state.now, state.remaining)
            self._live.update(table)
            return
        for state in states:
            said = f"{state.region}: {len(state.made)} of {len(STAGES)} stages made; {state.now}"
            if said != self._said.get(state.region):
                self._said[state.region] = said
                self._console.print(said + (f", ends in {state.remaining}" if state.remaining else ""), highlight=False)


def run(task: Task, regions: list[str], console: Console) -> bool:
    """Make all assets of `regions`, show the results, and return whether every region has its calibrator."""
    began = time.time()
    if all(_is_made(task, region) for region in regions):
        console.print("Everything is made already for this task; nothing was sent or trained again.")
        states = [RegionState(region, made=set(STAGES)) for region in regions]
    else:
        states = _make(task, regions, console)
    # The sensor that keeps it may not have seen the last region before Dagster was stopped.
    write_leaderboard(readable_tasks(), UPath(default_root()))
    summary = {"task": task.task, "wall_seconds": round(time.time() - began, 1), "regions": []}
    summary["regions"] = [_results(task, state.region) for state in states if not state.failure]
    succeeded = not any(state.failure for state in states)
    if succeeded:
        SUMMARY.parent.mkdir(parents=True, exist_ok=True)
        SUMMARY.write_text(json.dumps(summary, indent=2) + "\n")
    _print_results(summary, states, console)
    return succeeded


def _make(task: Task, regions: list[str], console: Console) -> list[RegionState]:
    SUMMARY.unlink(missing_ok=True)  # it is there only after a demo that succeeded; `_is_made` relies on it
    console.print("Starting the fine-tuning server and Dagster ...")
    with fine_tuning_server(), dagster(free_port(3000)) as url:
        client, instance = connect(task.provider), DagsterClient(url)
        instance.wait_until_loaded()
        register_regions(task, dagster_home())
        console.print(f"Dagster: {url}/asset-groups  (logs in {VAR / 'logs'})")
        started = time.time()
        instance.start_backfill(task.task, list(PREPARE), regions)
        states = [RegionState(region) for region in regions]
        with Display(console) as display:
            while not all(state.ended for state in states):
                _update(states, task, instance, client, started)
                display.show(states)
                time.sleep(_POLL_SECONDS)
        return states


def _update(states: list[RegionState], task: Task, instance: DagsterClient, client: Client, started: float) -> None:
    made = instance.materialized(task.task, STAGES, [state.region for state in states])
    failures = instance.failures(started)
    for state in states:
        state.made = {stage for (stage, region), when in made.items() if region == state.region and when >= started}
        state.failure = failures.get(state.region)
        if "finetune_job" in state.made and "finetuned_model" not in state.made:
            job = fine_tuning.retrieve(client, _read(task, "finetune_job", state.region)["job_id"])
            state.training = fine_tuning.progress(client, job)
            if job.status in fine_tuning.FAILED:
                state.failure = f"job {job.id} {job.status}: {fine_tuning.failure_reason(job)}"


def _is_made(task: Task, region: str) -> bool:
    """Whether an earlier demo ended well with exactly this task, and its outputs are all there."""
    if not SUMMARY.exists() or not all(_output(task, stage, region).exists() for stage in STAGES):
        return False
    return _read(task, "calibrator", region).get("task_fingerprint") == task_fingerprint(task)


def _output(task: Task, stage: str, region: str) -> UPath:
    tables = ("sampled_examples", "human_feedback", "filtered_qa", "benchmark")
    return UPath(default_root()) / task.task / stage / f"{region}.{'parquet' if stage in tables else 'json'}"


def _read(task: Task, stage: str, region: str) -> dict[str, Any]:
    return json.loads(_output(task, stage, region).with_suffix(".json").read_text())


def _results(task: Task, region: str) -> dict[str, Any]:
    files, model = _read(task, "training_jsonl", region), _read(task, "finetuned_model", region)
    found, calibrator = _read(task, "benchmark", region), _read(task, "calibrator", region)
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
    }


def _calibration_errors(report: dict[str, Any]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Calibration error and Brier score before and after; None of numbers, which have intervals and no probability."""
    if "before" not in report:
        return {"ece": None, "brier": None}, {"ece": None, "brier": None}
    before, after = report["before"], report["after"]
    return (
        {"ece": before["ece"]["estimate"], "brier": before["brier"]},
        {"ece": after["ece"]["estimate"], "brier": after["brier"]},
    )


def _print_results(summary: dict[str, Any], states: list[RegionState], console: Console) -> None:
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
    for state in states:
        if state.failure:
            console.print(f"[red]{state.region} failed:[/red] {state.failure}", highlight=False)
    where = f" Summary: {SUMMARY}." if SUMMARY.exists() else ""
    console.print(f"{summary['wall_seconds']} s.{where} `make ui` shows all of it.", highlight=False)
    if (page := UPath(default_root()) / "leaderboard.html").exists():
        console.print(f"In the browser, without Dagster: {page}", highlight=False)


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{before:.3f} -> {after:.3f}"
