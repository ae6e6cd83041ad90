"""`finetune-assets feedback`: the reviewers' page, who may sign in, and what they said as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Let people review labels and answers in the browser, until Ctrl-C.", invoke_without_command=True
)


@app.callback()
def review(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on. What the browser sends is not encrypted.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 7860,
) -> None:
    """Let people review labels and answers in the browser, until Ctrl-C.

    What they say goes into the database that FINETUNE_ASSETS_FEEDBACK_DB names, by default var/feedback.sqlite.
    """
    from finetune_assets.feedback.app.server import serve

    if context.invoked_subcommand is None:
        serve(host, port)


@app.command("add-reviewer")
def add_reviewer(
    name: Annotated[str, typer.Argument(help="Who may sign in.")],
    role: Annotated[str, typer.Option(help="reviewer, adjudicator (decides conflicts), or admin.")] = "reviewer",
) -> None:
    """Let somebody sign in, with a new password that is shown once; also for another role, or a forgotten password."""
    from finetune_assets.feedback.app.server import add_reviewer, welcome
    from finetune_assets.feedback.store.database import FeedbackDatabase

    with FeedbackDatabase() as db:
        print(welcome(name, add_reviewer(db, name, role)))  # pyright: ignore[reportArgumentType]


@app.command("remove-reviewer")
def remove_reviewer(name: Annotated[str, typer.Argument(help="Who may sign in no more.")]) -> None:
    """Sign somebody out for good. What he said stays."""
    from finetune_assets.feedback.store.database import FeedbackDatabase
    from finetune_assets.feedback.store.reviewers import remove_reviewer

    with FeedbackDatabase() as db:
        remove_reviewer(db, name)
    print(f"{name} may sign in no more")


@app.command("reviewers")
def list_reviewers() -> None:
    """List who may sign in, and what else each may do."""
    from finetune_assets.feedback.store.database import FeedbackDatabase
    from finetune_assets.feedback.store.reviewers import all_reviewers

    with FeedbackDatabase() as db:
        for reviewer in all_reviewers(db):
            print(f"{reviewer.name:<24} {reviewer.role}")


@app.command("export")
def export_feedback(
    file: Annotated[Path, typer.Argument(help="JSONL file to write, one event a line.", dir_okay=False)],
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
) -> None:
    """Write everything that reviewers ever said into a file."""
    from finetune_assets.feedback.store.database import FeedbackDatabase
    from finetune_assets.feedback.store.transfer import export_events

    with FeedbackDatabase() as db:
        print(f"{export_events(db, file, task):,} events: {file}")


@app.command("import")
def import_feedback(
    file: Annotated[Path, typer.Argument(help="What `export` wrote.", exists=True, dir_okay=False)],
) -> None:
    """Take over what reviewers said elsewhere. What is here already is not doubled; bad lines are set aside."""
    from finetune_assets.feedback.store.database import FeedbackDatabase
    from finetune_assets.feedback.store.transfer import import_events

    with FeedbackDatabase() as db:
        found = import_events(db, file)
    print(f"{found.n_new:,} new events, {found.n_known:,} were here already, {found.n_rejected:,} lines rejected")
    if found.rejected is not None:
        print(f"Rejected lines, with their reasons: {found.rejected}", file=sys.stderr)
        raise typer.Exit(1)
