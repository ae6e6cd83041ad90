"""`backup`, `restore`, `salvage`, `export` and `keys`: what keeps a server's folder, or takes a model out of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

_Home = Annotated[Path, typer.Option(help="The server's folder.")]
_HOME = Path("var/server")


def backup(folder: Annotated[Path, typer.Argument(help="A new folder for the copy.")], home: _Home = _HOME) -> None:
    """Copy the fine-tuning server's folder, while the server works: files, models, jobs, settings and the API key."""
    from finetune_assets.server import backup as keeping

    made = keeping.backup(home, folder)
    print(f"{made.files} files with {made.bytes / 1e6:.1f} MB of {home} are in {folder}, the API key among them.")


def restore(
    backup: Annotated[Path, typer.Argument(help="A folder that `backup` made.")],
    home: Annotated[Path, typer.Option(help="The server's folder to be; nothing may be there.")] = _HOME,
) -> None:
    """Make a server's folder of a backup, after a look at every byte of it."""
    from finetune_assets.server import backup as keeping

    made = keeping.restore(backup, home)
    print(f"{made.files} files with {made.bytes / 1e6:.1f} MB are in {home}: `finetune-assets serve --home {home}`")


def export(
    model: Annotated[str, typer.Argument(help="A fine-tuned model or a checkpoint, as jobs name it.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    home: _Home = _HOME,
    merged: Annotated[
        bool, typer.Option("--merged", help="The whole model with what it learned, not a PEFT folder beside its base.")
    ] = False,
    gguf: Annotated[
        bool, typer.Option("--gguf", help="The whole model in one file for llama.cpp and what is built on it.")
    ] = False,
) -> None:
    """Write a fine-tuned model for other tools, and compare it with what the server answers.

    Both compute in float32 on this machine. The comparison lies beside the weights, in parity.json; where it fails, the
    exit code is 1.
    """
    from finetune_assets.server.devices import PRECISION
    from finetune_assets.server.export import export as write

    if merged and gguf:
        raise typer.BadParameter("--merged and --gguf are two forms; name one of them")
    os.environ[PRECISION] = "float32"
    parity = write(home, model, folder, "gguf" if gguf else "merged" if merged else "adapter")
    told = f"{parity.same_answers} of {parity.prompts} answers are the same, log-probabilities differ by at most "
    print(f"{folder}: {told}{parity.largest_difference:.1e}.")
    if not parity.holds:
        raise typer.Exit(1)


def salvage(home: _Home = _HOME) -> None:
    """Go on with what can be saved, where `serve` says that the database and the folders do not belong together.

    The newest sound snapshot of the database is used, trained models are found again by the cards beside their weights,
    and what remains unknown is moved to lost+found. Nothing is deleted.
    """
    from finetune_assets.server.salvage import salvage as bring_back

    done = bring_back(home)
    for sentence in done:
        print(f"{sentence[0].upper()}{sentence[1:]}.")
    if not done:
        print(f"{home} is sound; nothing was changed.")


keys = typer.Typer(help="Keys of a fine-tuning server beside its own.", no_args_is_help=True)


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose it is; it stands in the audit log.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, chat, train or admin; may be repeated. By default the first three.")
    ] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute; by default any number.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Fine-tuning jobs that are not over; by default any.")] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, help="Tokens a day, of prompts, answers and training; by default any number.")
    ] = None,
    disk_mb: Annotated[int | None, typer.Option(min=1, help="Megabytes of stored files; by default any.")] = None,
    home: _Home = _HOME,
) -> None:
    """Make a key and print it, once: only its hash is kept. A server that runs knows it at once."""
    from finetune_assets.server import keys as kept
    from finetune_assets.server.database.usage import Account

    quotas = Account(jobs=jobs, tokens=tokens_per_day, disk=None if disk_mb is None else disk_mb << 20)
    print(kept.add(home, name, scope or ["read", "chat", "train"], per_minute, quotas))


@keys.command("remove")
def remove_key(name: Annotated[str, typer.Argument(help="Whose key.")], home: _Home = _HOME) -> None:
    """Take a key away; a server that runs refuses it at once."""
    from finetune_assets.server import keys as kept

    kept.remove(home, name)


@keys.command("list")
def list_keys(home: _Home = _HOME) -> None:
    """List the keys by name, with their scopes and limits."""
    from finetune_assets.server import keys as kept

    for key in kept.listed(home):
        limits = {
            "requests a minute": key.requests_per_minute,
            "jobs at once": key.jobs,
            "tokens a day": key.tokens_per_day,
            "MB on disk": key.disk_bytes and key.disk_bytes >> 20,
        }
        told = [f"{limit:,} {what}" for what, limit in limits.items() if limit is not None]
        print(f"{key.name}: {', '.join(key.scopes)}; {', '.join(told) or 'any number of requests'}")
