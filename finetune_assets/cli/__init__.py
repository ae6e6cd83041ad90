"""The command line. Exit codes: 0 all is well, 1 something was found or failed, 2 wrong use."""

from __future__ import annotations

import json
import os
import signal
import sys
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from finetune_assets import __version__
from finetune_assets.cli import evals, feedback, keeping, rescuing, scaling
from finetune_assets.cli.printing import Format, print_findings, print_jobs, print_report, say, tell
from finetune_assets.errors import FinetuneAssetsError, TaskError
from finetune_assets.training_file.target import Method

if TYPE_CHECKING:
    from finetune_assets.task import Task

app = typer.Typer(
    help="Labelled images and questions in, a calibrated fine-tuned model per region out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(feedback.app, name="feedback")
app.add_typer(keeping.keys, name="keys")
for _command in (
    keeping.backup, keeping.restore, keeping.salvage, keeping.export, rescuing.rescue, scaling.worker, scaling.route,
    evals.import_evals, evals.export_evals,
):  # fmt: skip
    app.command()(_command)
# What follows the first word is all of another program's.
app.command(context_settings={"allow_interspersed_args": False})(scaling.launch)


class Engine(StrEnum):
    """What makes the answers of a server."""

    own = "own"
    vllm = "vllm"


class Arms(StrEnum):
    """Which arms a demo asks."""

    all = "all"


_PORT = "Where the browser finds Dagster; by default 3000, or another where that is taken."
_SERVER_PORT = "Of the fine-tuning server; by default 8321, or another where that is taken."
_Output = Annotated[Format, typer.Option("--format", help="A table for people, or JSON for programs.")]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"finetune-assets {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Say the version and end.")
    ] = False,
) -> None:
    """Labelled images and questions in, a calibrated fine-tuned model per region out."""


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="Its name: a folder under tasks/, or one that is shipped.")] = "solar_cells",
    region: Annotated[list[str] | None, typer.Option(help="Only this region; may be repeated.")] = None,
    port: Annotated[int | None, typer.Option(help=_PORT)] = None,
    server_port: Annotated[int | None, typer.Option(help=_SERVER_PORT)] = None,
    arms: Annotated[
        Arms | None,
        typer.Option(help="Then ask every arm that needs no network, and rank them; takes some minutes more."),
    ] = None,
) -> None:
    """Run a task from its source to calibrated models, with a real Dagster and the local fine-tuning server.

    Both are those that run here, or are started. Stopped in the middle, the same command goes on where it was.
    """
    from finetune_assets.demo import run
    from finetune_assets.task import read_task
    from finetune_assets.task.places import task_files

    described = read_task(task)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if note := task_files()[task].note:
        print(f"{note}.", file=sys.stderr)
    if arms and described.provider != "local":
        raise TaskError(
            f"--arms all is for provider: local; at {described.provider} name the arms that you want to pay for under "
            "benchmark.arms"
        )
    if not run(described, _regions(described, region), console, port, server_port, with_arms=arms is not None):
        raise typer.Exit(1)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(help=_PORT)] = None,
    server_port: Annotated[int | None, typer.Option(help=_SERVER_PORT)] = None,
) -> None:
    """Open Dagster, with the fine-tuning server beside it, until Ctrl-C."""
    from finetune_assets.processes import dagster, our_command, served, until_one_ends
    from finetune_assets.provider.local_server import local_url

    try:
        say("Starting the fine-tuning server and Dagster, where they do not run ...")
        with served(say, "local", port=server_port) as server, dagster(say, port) as opened:
            if open_already := [user for user in opened.others() if user.startswith("`ui`")]:
                say(f"The UI of this folder is open already: {open_already[0]}.")
                return
            say(f"Dagster:            {opened.url}\nFine-tuning server: {local_url()}\nCtrl-C stops both.")
            until_one_ends(*([server] if server else []), opened)
    except KeyboardInterrupt:
        say(f"Stopped. Nothing is lost: jobs that were training go on at the next `{our_command('ui')}`.")
        raise


@app.command("init")
def begin_task(
    data: Annotated[Path, typer.Argument(help="A file or folder with labelled examples.")],
    part: Annotated[
        list[str] | None,
        typer.Option("--set", help="What a part is, such as answer=label or region=none; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take what is proposed, and ask nothing.")] = False,
) -> None:
    """Look at your data, propose a task, show how its rows would be read, and write its YAML under ./tasks.

    The parts are task, question, answer, kind (of the answer), category (of drawn objects), image, region, group,
    split, annotator (who answered), provider, model and encoding (of a table).
    """
    from finetune_assets.onboarding.conversation import begin, stated

    console = Console(width=None if sys.stdout.isatty() else 120)
    if begin(data, stated(part or []), console, None if yes else _ask) is None:
        print("Nothing was written.")
        raise typer.Exit(1)


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise TaskError("nobody answers; say what is wrong by --set, and --yes to write the task") from None


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8321,
    home: Annotated[Path, typer.Option(help="Where files, jobs, models and the API key are kept.")] = Path(
        "var/server"
    ),
    jobs: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many jobs train at once on each device: by default 1 on a GPU, 2 on a CPU; 0: workers do."
        ),
    ] = None,
    fetch_images: Annotated[
        bool,
        typer.Option("--fetch-images", help="Fetch images that requests and training files name by https URL."),
    ] = False,
    vllm_url: Annotated[
        str | None,
        typer.Option(help="A vLLM server that answers for the base models it has, e.g. http://127.0.0.1:8000."),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(help="Who answers: the server's own engine, or vLLM processes that it starts, and else its own."),
    ] = Engine.own,
    drain: Annotated[
        float,
        typer.Option(min=0, max=3600, help="Seconds that answers under way may take to end when the server is ended."),
    ] = 3.0,
    database: scaling.Database = None,
    store: scaling.Store = None,
) -> None:
    """Start the fine-tuning server, which speaks the OpenAI protocol.

    With --engine vllm it starts a vLLM for each text model, of the environment that FINETUNE_ASSETS_VLLM names, and its
    own engine answers what vLLM cannot, and while it does not run.

    Images are fetched from public addresses only, and not at all without --fetch-images. vLLM has to be started with
    --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True to answer for fine-tuned models.
    """
    from finetune_assets.running import require_free, running
    from finetune_assets.server import app as server
    from finetune_assets.server import base_models, proofs

    if vllm_url and engine is Engine.vllm:
        raise typer.BadParameter("--engine vllm starts a vLLM, and --vllm-url names one that runs: choose one")
    if running(home) is None:
        require_free(port, "--port", host)
    if base_models.wanted(home):
        base_models.install()
    with proofs.proving(home, lambda line: print(line, flush=True)):
        server.serve(
            home, host, port, jobs=jobs, fetch_images=fetch_images, vllm_url=vllm_url, engine=engine.value, drain=drain,
            shared=scaling.shared(database, store),
        )  # fmt: skip


@app.command()
def validate(
    file: Annotated[str, typer.Argument(help="Training file (JSONL): a path, or an address such as s3://bucket/key.")],
    validation: Annotated[str | None, typer.Option(help="Its validation file; also checked for leaks.")] = None,
    provider: Annotated[
        str, typer.Option(help="Whose limits hold: openai, azure, local, nebius, crusoe, or a base URL.")
    ] = "openai",
    model: Annotated[
        str | None, typer.Option(help="The base model, for its limits; by default those that all models have.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="What the file is to train; by default what most of its lines are for.")
    ] = None,
    structure_only: Annotated[
        bool,
        typer.Option(
            "--structure-only", help="Check JSON, keys, roles and tools alone: no tokens, images, texts or duplicates."
        ),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write the report here, as a web page.", dir_okay=False)
    ] = None,
    output: _Output = Format.table,
) -> None:
    """Check training files as a provider would, before a cent is spent.

    Tokens of declared functions are an estimate. A validation file leaks where its questions or images are those of the
    training file, put down otherwise and recompressed ones too.
    """
    from finetune_assets.errors import TargetError
    from finetune_assets.training_file.target import find_target
    from finetune_assets.training_file.validation import validate as check

    for path in filter(None, (file, validation)):
        if "://" not in path and not Path(path).is_file():
            raise typer.BadParameter(f"there is no file {path!r}")
    try:
        target = find_target(provider, model)
    except TargetError as error:
        raise typer.BadParameter(str(error)) from error
    found = check(file, validation, target, method, structure_only=structure_only, alike=True)
    if html is not None:
        from finetune_assets.dataset.json_lines import lines
        from finetune_assets.training_file.report import to_html

        first = [example for _, example in islice(lines(file), 6) if isinstance(example, dict)]
        html.write_text(to_html(found, first, ""), "utf-8")
    report = found.to_dict()
    if output is Format.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print_report(report)
    if not report["ok"]:
        raise typer.Exit(1)


@app.command()
def status(
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    newest: Annotated[int, typer.Option(min=1, help="How many jobs of each provider.")] = 20,
    output: _Output = Format.table,
) -> None:
    """Show the newest fine-tuning jobs of every provider that the tasks use: what runs, and what failed."""
    from finetune_assets.provider.overview import overview
    from finetune_assets.task import read_task, readable_tasks

    tasks = [read_task(name) for name in task] if task else readable_tasks()
    found = overview(tasks, newest)
    jobs = [job for job in found.jobs if not task or job.task in task]
    if output is Format.json:
        print(json.dumps({"jobs": [job.to_dict() for job in jobs], "silent": found.silent}, ensure_ascii=False))
    else:
        print_jobs(jobs)
        if not jobs and not found.silent:
            print("There are no jobs yet.")
    for sentence in found.silent:
        print(sentence, file=sys.stderr)
    if found.silent:
        raise typer.Exit(1)


@app.command()
def predict(
    task: Annotated[str, typer.Argument(help="Its name: a folder under tasks/, or one that is shipped.")],
    region: Annotated[str, typer.Argument(help="Whose champion is asked.")],
    image: Annotated[
        list[Path] | None,
        typer.Option(
            help="An image to ask about; of a task that shows several, each in its order.", exists=True, dir_okay=False
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="The question; by default the task's own about an image.")] = None,
    input_: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Many: a JSONL file with `image` (relative to it) or the list `images`, `text`, or both in each line.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    output: _Output = Format.table,
) -> None:
    """Ask the model that answers for a region, and say how likely its answer is true.

    Answers to a file come in its order, one line each. The local server is started for it where it does not run.
    """
    from finetune_assets.predictor import Predictor, Question, read_questions
    from finetune_assets.processes import served

    if (input_ is None) == (not image and text is None):
        raise typer.BadParameter("give either --input or a question: --image, --text or both")
    predictor = Predictor.load(task, region)
    if predictor.warning:
        print(f"Warning: {predictor.warning}.", file=sys.stderr)
    asked = Question(text, images=tuple(image or ()))
    if input_ is None:
        predictor.require(asked)
    questions = read_questions(input_) if input_ else [asked]
    failed = 0
    with served(tell, predictor.champion.provider):
        for found in predictor.predict(questions):
            failed += found.error is not None
            print(json.dumps(found.to_dict(), ensure_ascii=False) if output is Format.json else str(found), flush=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def webhooks(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8322,
) -> None:
    """Receive a provider's webhooks, so that the end of a job is noticed within seconds.

    Optional: without them the job sensor asks OpenAI or Azure every half minute. The signing secret is taken from
    OPENAI_WEBHOOK_SECRET. A proxy or tunnel of yours hands the webhooks on.
    """
    from finetune_assets.pipeline.following.webhooks import serve
    from finetune_assets.processes import dagster_home

    serve(dagster_home(), port)


@app.command()
def migrate(
    task: Annotated[str, typer.Argument(help="Its name, such as solar_cells; already trained.")],
    to: Annotated[str, typer.Option(help="The new provider: local, openai, or a base URL.")] = "local",
    region: Annotated[list[str] | None, typer.Option(help="Only this region; may be repeated.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="What is trained there; by default the task's own base model.")
    ] = None,
    output: _Output = Format.table,
) -> None:
    """Train a task's models again at another provider, and compare old and new while the old ones can be asked.

    Both answer the same test split. Stopped in the middle, the same command goes on where it was.
    """
    from finetune_assets import migration
    from finetune_assets.processes import served
    from finetune_assets.task import read_task

    described = read_task(task)
    asked, new = _regions(described, region), migration.successor(described, to, base_model)
    console = Console(width=None if sys.stdout.isatty() else 120, stderr=output is Format.json)
    with served(tell, to, described.provider):
        found = migration.migrate(described, new, asked, console)
    if output is Format.json:
        print(json.dumps({name: report.to_dict() for name, report in found.items()}, ensure_ascii=False))
    elif found:
        migration.show(found, console)
    if len(found) < len(asked):
        raise typer.Exit(1)


@app.command()
def doctor(output: _Output = Format.table) -> None:
    """Look at what is installed, reachable and misconfigured, before anything is run."""
    from finetune_assets.doctor import examine

    if not print_findings(examine(), as_json=output is Format.json):
        raise typer.Exit(1)


@app.command()
def check(
    task: Annotated[str | None, typer.Argument(help="Its name, such as solar_cells; by default all tasks.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="Only this region; may be repeated.")] = None,
    output: _Output = Format.table,
) -> None:
    """Look at a task as a whole before anything is paid: its YAML, its data, its splits, its provider and prices.

    The data is read as the stages read it, and some of its images are opened; nothing is sent but the question whether
    the provider has the model.
    """
    from finetune_assets.preflight import tasks
    from finetune_assets.task import task_names

    if region and task is None:
        raise typer.BadParameter("--region goes with a task")
    if task is not None and task not in (known := task_names()):
        raise typer.BadParameter(f"there is no task {task!r}; there are {', '.join(known) or 'none'}")
    with Console(stderr=True).status("") as waiting:
        names = [task] if task else task_names()
        findings = (found for name in names for found in tasks.check(name, region or [], waiting.update))
        if not print_findings(findings, as_json=output is Format.json):
            raise typer.Exit(1)


def _regions(task: Task, asked: list[str] | None) -> list[str]:
    from finetune_assets.dataset.sources import regions_of

    known = regions_of(task)
    if unknown := set(asked or []) - set(known):
        raise typer.BadParameter(f"{task.task} has the regions {', '.join(known)}, not {', '.join(sorted(unknown))}")
    return asked or known


def main() -> NoReturn:
    """Run the command line; errors of ours become one clear line instead of a trace."""
    if os.name != "posix":
        print("Error: this package runs on Linux and macOS; on Windows, use WSL.", file=sys.stderr)
        sys.exit(1)
    # A shell that starts us in the background has us, and so our children, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        app(standalone_mode=True)
    except FinetuneAssetsError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "finetune_assets").startswith("finetune_assets"):
            raise
        extra = "feedback" if error.name in ("sqlalchemy", "psycopg") else "server"
        print(f"Error: {error.name} is not installed; run: pip install 'finetune_assets[{extra}]'", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
