"""The demo: one task from its source to calibrated models, through a real Dagster and a real fine-tuning server.

A run for each region makes the stages up to the submitted job; the sensor does the rest as the jobs succeed. What an
earlier demo made for the same task is shown again instead. Dagster and the server are those that run here, or are
started.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from upath import UPath

from finetune_assets.demo.dagster_client import DagsterClient, DagsterError
from finetune_assets.demo.progress import STAGES, Display, RegionState, clock
from finetune_assets.demo.results import SUMMARY, has_contest, output, read, results, show
from finetune_assets.pipeline.partitions import register_regions
from finetune_assets.pipeline.shown.leaderboard import Kept, write_leaderboard
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.processes import VAR, dagster, dagster_home, our_command, served
from finetune_assets.processes.shared import Joined
from finetune_assets.provider import fine_tuning
from finetune_assets.provider.client import Client, connect
from finetune_assets.results.region import default_root, task_fingerprint
from finetune_assets.task import Task, readable_tasks
from finetune_assets.task.places import task_files

_POLL_SECONDS = 2.0
_TRAINING_POLL_SECONDS = 6.0
"""While there is nothing but training: to ask Dagster costs as much of a core as its sensors."""
_CANCEL_SECONDS = 15.0
"""For runs under way to end in order, after Ctrl-C."""


def run(
    task: Task,
    regions: list[str],
    console: Console,
    port: int | None = None,
    server_port: int | None = None,
    *,
    with_arms: bool = False,
) -> bool:
    """Make all assets of `regions`, show the results, and return whether every region has its calibrator.

    Args:
        task: what is made.
        regions: which of its regions.
        console: where a person follows it.
        port: the one that Dagster must have; None takes 3000, or another where that is taken.
        server_port: the one that the fine-tuning server must have; None takes 8321, or another.
        with_arms: whether every arm that needs no network is asked too, once the models are there.

    Raises:
        KeyboardInterrupt: it was stopped; the console says what is kept.
    """
    began = time.time()
    if all(_is_made(task, region) for region in regions):
        console.print("Everything is made already for this task; nothing was sent or trained again.")
        states, started = [RegionState(region, made=dict.fromkeys(STAGES, 0.0)) for region in regions], None
    else:
        states, started = [RegionState(region) for region in regions], began
    lacks_arms = with_arms and (started is not None or not all(has_contest(task, region) for region in regions))
    if started is not None or lacks_arms:
        try:
            with _opened(task, console, port, server_port) as opened:
                if started is not None:
                    started = _make(task, states, console, opened)
                if lacks_arms and not any(state.failure for state in states):
                    _ask_arms(task, states, console, opened)
        except KeyboardInterrupt:
            _say_what_is_kept(task, states, console)
            raise
    # The sensor that keeps it may not have seen the last region before Dagster was stopped.
    root = default_root()
    write_leaderboard(Kept().read(readable_tasks(), UPath(root)), root)
    summary = {"task": task.task, "wall_seconds": round(time.time() - began, 1), "regions": [], "clock": None}
    summary["regions"] = [results(task, state.region) for state in states if not state.failure]
    if started is not None:
        clocks = {state.region: clock(state.made, started) for state in states}
        summary["clock"] = {"start": round(started - began, 1), "regions": clocks}
    succeeded = not any(state.failure for state in states)
    if succeeded:
        SUMMARY.parent.mkdir(parents=True, exist_ok=True)
        SUMMARY.write_text(json.dumps(summary, indent=2) + "\n")
    show(summary, states, console)
    return succeeded


@dataclass(frozen=True)
class _Opened:
    """What a demo runs in."""

    client: Client
    instance: DagsterClient
    running: Joined


@contextmanager
def _opened(task: Task, console: Console, port: int | None, server_port: int | None) -> Iterator[_Opened]:
    """Open Dagster and the provider, those that run here or new ones, for as long as the block goes on."""
    say = _saying(console)
    say("Starting the fine-tuning server and Dagster, where they do not run ...")
    with ExitStack() as ended_last, ThreadPoolExecutor() as beside, ExitStack() as ended_first:
        serves = beside.submit(ended_last.enter_context, served(say, task.provider, port=server_port))
        running = ended_first.enter_context(dagster(say, port))
        serves.result()
        client, instance = connect(task.provider), DagsterClient(running.url)
        _load(task, instance, running)
        register_regions(task, dagster_home())
        say(f"Dagster: {running.url}/asset-groups  (logs in {VAR / 'logs'})")
        try:
            yield _Opened(client, instance, running)
        except DagsterError:
            running.require_alive()
            raise


def _make(task: Task, states: list[RegionState], console: Console, opened: _Opened) -> float:
    """Make all stages of the regions; return when the first one could begin, in Unix seconds."""
    SUMMARY.unlink(missing_ok=True)  # it is there only after a demo that succeeded; `_is_made` relies on it
    instance, started = opened.instance, time.time()
    demo = instance.start_runs(task.task, list(PREPARE), [state.region for state in states])
    with _cancelled_on_ctrl_c(console, opened, demo), Display(console) as display:
        while not all(state.ended for state in states):
            _update(states, task, instance, opened.client, started, demo)
            display.show(states)
            only_training = all(state.ended or state.is_training for state in states)
            time.sleep(_TRAINING_POLL_SECONDS if only_training else _POLL_SECONDS)
    return started


def _ask_arms(task: Task, states: list[RegionState], console: Console, opened: _Opened) -> None:
    """Evaluate the regions once more, with every arm that needs no network; no question is asked twice."""
    _saying(console)("Asking every arm that needs no network ...")
    began, regions = time.time(), [state.region for state in states]
    config = {"ops": {f"{task.task}__benchmark": {"config": {"local_arms": True}}}}
    demo = opened.instance.start_runs(task.task, list(EVALUATE[1:]), regions, config)
    with _cancelled_on_ctrl_c(console, opened, demo):
        while True:
            made = opened.instance.materialized(task.task, [EVALUATE[-1]], regions)
            failures = opened.instance.failures(task.task, demo, regions, began)
            for state in states:
                state.failure = failures.get(state.region)
            if all(state.failure or made.get((EVALUATE[-1], state.region), 0) >= began for state in states):
                return
            time.sleep(_POLL_SECONDS)


@contextmanager
def _cancelled_on_ctrl_c(console: Console, opened: _Opened, demo: str) -> Iterator[None]:
    """Have the runs of a demo end where it is stopped, unless somebody else uses Dagster."""
    try:
        yield
    except KeyboardInterrupt:
        _saying(console)("Stopping ...")
        if not opened.running.others():
            # It would go on beside the one that the same command starts again.
            opened.instance.cancel_runs(demo, _CANCEL_SECONDS)
        raise


def _saying(console: Console) -> Callable[[str], None]:
    return partial(console.print, highlight=False, markup=False, soft_wrap=True)


def _load(task: Task, instance: DagsterClient, running: Joined) -> None:
    """Have Dagster know the task as its file says it now."""
    if task_files()[task.task].path.stat().st_mtime > running.running.process.created:
        instance.reload()
    instance.wait_until_loaded(running.require_alive)


def _update(
    states: list[RegionState],
    task: Task,
    instance: DagsterClient,
    client: Client,
    started: float,
    demo: str,
) -> None:
    regions = [state.region for state in states]
    made = instance.materialized(task.task, STAGES, regions)
    failures = instance.failures(task.task, demo, regions, started)
    for state in states:
        here = {stage: when for (stage, region), when in made.items() if region == state.region}
        state.made = {stage: when for stage, when in here.items() if when >= started}
        state.failure = failures.get(state.region)
        if "finetune_job" in state.made and "finetuned_model" not in state.made:
            state.job_id = read(task, "finetune_job", state.region)["job_id"]
            if state.job_id is None:
                continue  # it waits for a free place
            job = fine_tuning.retrieve(client, str(state.job_id))
            state.training = fine_tuning.progress(client, job)
            if job.status in fine_tuning.FAILED:
                state.failure = f"job {job.id} {job.status}: {fine_tuning.failure_reason(job)}"


def _say_what_is_kept(task: Task, states: list[RegionState], console: Console) -> None:
    made = ", ".join(
        f"{state.region}: {len(state.made)} of {len(STAGES)} stages made" for state in states if state.made
    )
    where = "when the server runs again" if task.provider == "local" else f"at {task.provider} meanwhile"
    jobs = [state.job_id for state in states if state.job_id and "finetuned_model" not in state.made]
    goes_on = f" The training goes on {where} ({', '.join(jobs)})." if jobs else ""
    again = our_command(f"demo --task {task.task}")
    words = f"Stopped. Nothing is lost{f' ({made})' if made else ''}.{goes_on}"
    console.print(f"{words} To go on, run the same command: {again}", highlight=False, markup=False, soft_wrap=True)


def _is_made(task: Task, region: str) -> bool:
    """Whether an earlier demo ended well with exactly this task, and its outputs are all there."""
    if not SUMMARY.exists() or not all(output(task, stage, region).exists() for stage in STAGES):
        return False
    return read(task, "calibrator", region).get("task_fingerprint") == task_fingerprint(task)
