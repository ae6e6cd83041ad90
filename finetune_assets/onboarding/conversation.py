"""Shows a proposal, lets a person correct it by answering, and writes the YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from finetune_assets.errors import TaskError
from finetune_assets.onboarding.preview import Preview, effort, preview, seed
from finetune_assets.onboarding.proposal import PARTS, Proposal, propose
from finetune_assets.onboarding.questions import NONE
from finetune_assets.onboarding.survey import Survey, survey
from finetune_assets.task import Task
from finetune_assets.task.places import FILE, OWN

Ask = Callable[[str], str]
"""Puts a question to a person and returns the answer, "" for the usual one."""
_MAX_CELL = 60


def begin(path: Path, stated: Mapping[str, str], console: Console, ask: Ask | None) -> Path | None:
    """Turn a file or folder into a task, and return where its YAML was written; None where a person gave up.

    Args:
        path: The data.
        stated: What was said beforehand of some of `PARTS`.
        console: Where the proposal is shown.
        ask: Asks a person; None takes the proposal as it is.

    Raises:
        SourceError: nothing that a source reads lies there.
        TaskError: the proposal is no task, or nothing of the data can be read by it.
    """
    said = dict(stated)
    path = path if path.name else path.absolute()  # "." has no name that a task could have
    found = survey(path, said.get("encoding"))
    while True:
        try:
            proposal = propose(found, said)
            task = _task(proposal)
        except TaskError as error:
            if ask is None:
                raise
            console.print(str(error), markup=False, highlight=False, style="red")
            part = ask("Which part shall be changed? ").strip().lower()
            said[part] = ask(f"{part}: what shall it be? ").strip()
            continue
        seen = preview(task)
        proposal.attributes["sampling"]["seed"] = seed(task, seen)
        _show(found, proposal, task, seen, console)
        if ask is None:
            if not seen.n:
                raise TaskError(_nothing(seen))
            return _write(proposal, console)
        reply = ask("Enter writes the task; a name in the first column changes that part; q leaves: ").strip().lower()
        if reply == "q":
            return None
        if reply in PARTS:
            said[reply] = _asked(reply, proposal, ask) or said.get(reply, proposal.parts[reply])
            found = survey(path, said["encoding"]) if reply == "encoding" else found
        elif reply:
            console.print(f"{reply!r} is none of {', '.join(PARTS)}.", style="yellow", markup=False)
        elif seen.n:
            return _write(proposal, console)


def stated(written: Iterable[str]) -> dict[str, str]:
    """Read what was said of parts, each as `part=value`.

    Raises:
        TaskError: one is not written so, or is no part.
    """
    found: dict[str, str] = {}
    for one in written:
        part, equals, value = one.partition("=")
        if not equals or part.strip() not in PARTS:
            raise TaskError(
                f"--set must be one of {', '.join(PARTS)} with its value, such as answer=label, got {one!r}"
            )
        found[part.strip()] = value.strip()
    return found


def _task(proposal: Proposal) -> Task:
    try:
        return Task.model_validate(proposal.attributes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        said = ", ".join(f"{part}={value}" for part, value in proposal.parts.items())
        raise TaskError(f"no task can be made of it yet: {place}: {first['msg']}; taken were {said}") from error


def _asked(part: str, proposal: Proposal, ask: Ask) -> str:
    others = proposal.others.get(part, [])
    choices = f"; columns: {', '.join(others[:20])}" if others else ""
    return ask(f"{part} is {proposal.parts[part]}{choices}; what shall it be ({NONE} for nothing)? ").strip()


def _nothing(seen: Preview) -> str:
    if seen.failed:
        return seen.failed
    reasons = "; ".join(f"{n} {reason}: {seen.why[reason]}" for reason, n in seen.aside.most_common(3))
    return f"nothing could be read as an example: {reasons or 'there are no rows'}"


def _show(found: Survey, proposal: Proposal, task: Task, seen: Preview, console: Console) -> None:
    console.print(f"\n{found.words}\n", markup=False, highlight=False)
    table = Table("part", "taken for it", "other columns that could be")
    for part in PARTS:
        others = [name for name in proposal.others.get(part, []) if name != proposal.parts[part]]
        table.add_row(part, escape(proposal.parts[part]), escape(", ".join(others[:6])))
    console.print(table)
    if seen.examples:
        console.print(_examples(seen))
    if seen.given_away.told:
        console.print(f"Warning: {seen.given_away.told}", markup=False, highlight=False, style="yellow")
    for reason, n in seen.aside.most_common():
        console.print(
            f"Set aside: {n} {reason}, first: {seen.why[reason]}", markup=False, highlight=False, style="yellow"
        )
    if not seen.n:
        console.print(_nothing(seen), markup=False, highlight=False, style="red")
        return
    console.print(
        f"{seen.n:,} examples. Regions: {_counts(seen.regions)}. Answers: {_counts(seen.answers)}.", markup=False
    )
    console.print(f"Training: {effort(task, seen)}.", markup=False, highlight=False)


def _examples(seen: Preview) -> Table:
    table = Table("question", "image", "answer", "region", "group")
    for example in seen.examples:
        cells = [
            example.question,
            _name(example.image),
            example.answer or "",
            example.region,
            example.group or "",
        ]
        table.add_row(*(escape(" ".join(cell.split())[:_MAX_CELL]) for cell in cells))
    return table


def _name(image: str | bytes | None) -> str:
    return "(in the data)" if isinstance(image, bytes) else (image or "").rpartition("/")[2]


def _counts(counter: Mapping[str, int]) -> str:
    first = sorted(counter.items(), key=lambda found: -found[1])[:6]
    more = f", and {len(counter) - len(first)} more" if len(counter) > len(first) else ""
    return ", ".join(f"{name} {n:,}" for name, n in first) + more


def _write(proposal: Proposal, console: Console) -> Path:
    """Write the YAML where tasks are looked for; one that is there is never written over.

    Raises:
        TaskError: there is a task of this name.
    """
    name = proposal.attributes["task"]
    path = OWN / name / FILE
    if path.exists():
        raise TaskError(f"{path} is there already; take another name by `--set task=NAME`, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written(proposal.attributes), "utf-8")
    console.print(f"\nWritten: {path}", highlight=False)
    console.print(f"Next: `finetune-assets check {name}`, then `finetune-assets demo --task {name}`.", highlight=False)
    return path


def written(attributes: dict[str, Any]) -> str:
    """Give a task's YAML."""
    head = "type: finetune_assets.pipeline.FineTuningTask\n\n"
    return head + yaml.safe_dump({"attributes": attributes}, sort_keys=False, allow_unicode=True, width=120)
