"""`rescue`: a task brought over from a model that will be shut down."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_assets.cli.printing import MAX_ROWS, Format, tell
from finetune_assets.errors import TaskError

if TYPE_CHECKING:
    from finetune_assets.rescue import Labelled, Nearness
    from finetune_assets.task import Task


def rescue(
    task: Annotated[str, typer.Argument(help="Its name, such as solar_cells; its words are how the model is asked.")],
    model: Annotated[str, typer.Option("--from", help="The model that will be shut down, at the task's provider.")],
    inputs: Annotated[
        Path | None,
        typer.Option(help="What it is to label: a folder of images, or a JSONL file as `predict --input` takes it."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="Of the inputs; needed where the task has several.")] = None,
    into: Annotated[str | None, typer.Option(help="The new task's name; by default the task's with _rescued.")] = None,
    to: Annotated[str, typer.Option(help="The new task's provider: local, openai, or a base URL.")] = "local",
    people: Annotated[
        float, typer.Option(min=0, max=1, help="Greatest share of the inputs that people are to look at.")
    ] = 0.15,
    output: Annotated[Format, typer.Option("--format", help="table, or json for programs.")] = Format.table,
) -> None:
    """Have a model that will be shut down label inputs for a new task, and later compare both models.

    With --inputs a task is written whose labels are the old model's answers; those it was least sure of wait for
    people. Once that task is trained, the same command without --inputs compares old and new on the old
    task's own test split.
    """
    from finetune_assets.onboarding.conversation import written
    from finetune_assets.rescue import Teacher, compared, label, require_room, successor
    from finetune_assets.results.region import Outputs, default_root
    from finetune_assets.task import read_task
    from finetune_assets.task.places import FILE, OWN

    described = read_task(task)
    name, where = into or f"{task}_rescued", _region(described, region)
    teacher, folder = Teacher(described, model, Outputs(root=default_root())), OWN / name
    if inputs is not None and not inputs.exists():
        raise typer.BadParameter(f"there is no {inputs}", param_hint="--inputs")
    if inputs is not None and (folder / FILE).exists():
        require_room(read_task(name), where, inputs, folder)
    with _served(described.provider, to):
        if inputs is None:
            _show(compared(teacher, read_task(name), where, tell), task, output)
            return
        labelled = label(teacher, where, inputs, folder, people, tell)
    if not (folder / FILE).exists():
        (folder / FILE).write_text(written(successor(teacher, name, folder, to, inputs)), "utf-8")
    _tell(labelled, name, output)


def _region(task: Task, region: str | None) -> str:
    from finetune_assets.dataset.sources import regions_of

    known = regions_of(task)
    if region is None and len(known) == 1:
        return known[0]
    if region not in known:
        raise typer.BadParameter(f"{task.task} has the regions {', '.join(known)}: name one", param_hint="--region")
    return region


def _served(*providers: str) -> AbstractContextManager[object]:
    from finetune_assets.processes import served

    return served(tell, *providers)


def _tell(labelled: Labelled, name: str, output: Format) -> None:
    if output is Format.json:
        print(json.dumps(labelled.to_dict(), ensure_ascii=False))
        return
    asked = labelled.n + len(labelled.refused)
    print(f"{labelled.table}: {labelled.n:,} of {asked:,} inputs are labelled.")
    for why in labelled.refused[:MAX_ROWS]:
        print(f"  not labelled: {why}")
    if (more := len(labelled.refused) - MAX_ROWS) > 0:
        print(f"  and {more:,} more")
    share = labelled.n_for_people / labelled.n
    print(f"{labelled.n_for_people:,} labels ({share:.1%}) wait for people, in `finetune-assets feedback` once the new")
    print("task's first stages have run.")
    if labelled.n_unweighed:
        print(f"{labelled.n_unweighed:,} came without a probability, so nobody is asked about them.")
    print(f"Next: `finetune-assets check {name}`, then `finetune-assets demo --task {name}`, then this command without")
    print("--inputs, which compares both models.")


def _show(found: Nearness | None, task: str, output: Format) -> None:
    if found is None:
        raise TaskError(f"{task} has no labelled test split to compare on: materialise its filtered_qa first")
    if output is Format.json:
        print(json.dumps(found.report.to_dict() | found.to_dict(), ensure_ascii=False))
        return
    row, change, alike = found.report.decisive, found.report.decisive.difference, found.agreement
    print(f"{found.report.primary} of {found.report.n}: old {row.base.estimate:.3f}, new {row.fine_tuned.estimate:.3f}")
    print(f"Difference: {change.estimate:+.3f} [{change.low:+.3f}, {change.high:+.3f}], p = {found.report.p_value:.2g}")
    print(f"Both answer alike: {alike.estimate:.3f} [{alike.low:.3f}, {alike.high:.3f}]")
    if found.n_left_out:
        print(f"Left out, because the new model learned from their inputs: {found.n_left_out}")
    print(f"{found.report.verdict}\n{found.page}")
