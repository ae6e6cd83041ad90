"""`import-evals` and `export-evals`: what other tools for evaluations hold becomes a task, and a benchmark theirs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_assets.cli.printing import MAX_ROWS, Format

if TYPE_CHECKING:
    from finetune_assets.evals.importing import Imported


class Form(StrEnum):
    """What reads an exported benchmark."""

    inspect = "inspect"
    promptfoo = "promptfoo"


def import_evals(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="An OpenAI Evals export in its parts (JSON, JSONL), or one promptfoo config or table of tests."
        ),
    ],
    into: Annotated[str | None, typer.Option(help="The new task's name; by default that of the first file.")] = None,
    question: Annotated[
        str | None, typer.Option(help="What asks, such as '{{item.text}}', where the files do not say it.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="What is right, such as '{{item.label}}', where no grader says it.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of the answer: binary, choice, number or text; by default what the labels are.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="The run of an Evals export whose prompt asks.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The promptfoo prompt that asks: its label or number.")] = None,
    provider: Annotated[str, typer.Option(help="The task's: local, openai, or a base URL.")] = "local",
    model: Annotated[str | None, typer.Option(help="The base model that is trained.")] = None,
    output: Annotated[Format, typer.Option("--format", help="table, or json for programs.")] = Format.table,
) -> None:
    """Make a task of the labelled questions of an OpenAI Evals export or of promptfoo tests.

    The task is a YAML and a chat file under ./tasks. What cannot be taken over is said by file, line and reason.
    Nothing in the files is run, and of the files that they name only tests, prompts and images beside them are read.
    """
    from finetune_assets.evals.importing import Stated, import_evals
    from finetune_assets.onboarding.proposal import task_name

    stated = Stated(
        task=into or task_name(files[0]), question=question, answer=answer, kind=kind, prompt=prompt, run=run,
        provider=provider, model=model,
    )  # fmt: skip
    made = import_evals(files, stated)
    if output is Format.json:
        print(json.dumps(made.to_dict(), ensure_ascii=False))
    else:
        _tell(made)


def _tell(made: Imported) -> None:
    print(f"{made.path}: {made.n:,} of {made.n + len(made.left):,} cases are taken over, as {made.answer} answers.")
    for remark in made.remarks:
        print(f"  {remark}")
    for left in made.left[:MAX_ROWS]:
        print(f"  not taken over: {left.where}: {left.reason}")
    if (more := len(made.left) - MAX_ROWS) > 0:
        print(f"  and {more:,} more")
    print(f"Next: `finetune-assets check {made.task}`, then `finetune-assets demo --task {made.task}`.")


def export_evals(
    task: Annotated[str, typer.Argument(help="Its name; a benchmark of the region is there.")],
    region: Annotated[str, typer.Argument(help="Whose benchmark is written.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    form: Annotated[Form, typer.Option("--as", help="Logs of inspect_ai, or a config of promptfoo.")] = Form.inspect,
) -> None:
    """Write a region's benchmark as logs of inspect_ai, or as a config that promptfoo runs.

    Logs say what the base model and the fine-tuned one were asked, answered and scored. A config asks the same of the
    same models again; it is for answers of one word. Both hold the questions and images of the test split.
    """
    from finetune_assets.evals.exporting import export
    from finetune_assets.results.region import Outputs, Region, default_root
    from finetune_assets.task import read_task

    for path in export(Region(read_task(task), region, Outputs(root=default_root())), form.value, folder):
        print(path)
