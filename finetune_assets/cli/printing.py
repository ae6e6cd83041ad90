"""What commands print for people: tables, and lines whose ids can be copied."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from finetune_assets.preflight.finding import Finding
    from finetune_assets.provider.overview import JobRow

_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}
_STATES = {"good": "green", "warning": "yellow", "bad": "red"}
MAX_ROWS = 20
"""Findings of one code that a table shows."""


class Format(StrEnum):
    """How a command prints its result."""

    table = "table"
    json = "json"


def say(words: str) -> None:
    """Tell a person, at once."""
    print(words, flush=True)


def tell(words: str) -> None:
    """Tell a person, apart from what a program may read."""
    print(words, file=sys.stderr, flush=True)


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Print findings as they come, or all at the end as JSON, and say whether none is bad."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            console.print(f"{finding.state:8} {finding.what}: {finding.words}", style=_STATES[finding.state])
    if as_json:
        print(json.dumps([finding.to_dict() for finding in found], ensure_ascii=False))
    return all(finding.state != "bad" for finding in found)


def print_jobs(jobs: Sequence[JobRow]) -> None:
    """Print some lines for each job, ids unbroken: they and the errors are what people copy."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for job in jobs:
        whose = f"{job.task}/{job.region}" if job.task else "made elsewhere"
        line = f"{job.created}  {whose}  {job.status}  {job.progress}".rstrip()
        console.print(line, style=_COLOURS.get(job.status, ""))
        console.print(f"    {job.job_id}, of {job.training_file}, at {job.provider}")
        console.print(f"    {job.error or ' -> '.join(filter(None, (job.model, job.fine_tuned_model)))}")


def print_report(report: dict) -> None:
    """Print the findings of `validate`, of each kind the first ones."""
    console = Console(markup=False)  # a message may quote "[/b]" from the file, which is no markup of ours
    for checked in report["files"]:
        table = Table("line", "level", "code", "message", title=f"{checked['path']}", title_justify="left")
        shown: Counter[str] = Counter()
        for level in ("errors", "warnings"):
            for found in checked[level]:
                shown[found["code"]] += 1
                if shown[found["code"]] <= MAX_ROWS:
                    table.add_row(str(found["line"] or "file"), level[:-1], found["code"], found["message"])
        if table.row_count:
            console.print(table)
        for code, n in shown.items():
            if n > MAX_ROWS:
                console.print(f"{n - MAX_ROWS:,} more {code}: see --format json")
        tokens = _tokens(checked["tokens"])
        console.print(
            f"{checked['path']}: {checked['n_examples']} examples in {checked['n_lines']} lines, {tokens}, "
            f"{len(checked['errors'])} errors, {len(checked['warnings'])} warnings"
        )


def _tokens(counted: dict[str, int] | None) -> str:
    if counted is None:
        return "tokens not counted"
    estimated = counted.get("tools_estimated")
    return f"{counted['total']:,} tokens" + (f" (about {estimated:,} of them for functions)" if estimated else "")
