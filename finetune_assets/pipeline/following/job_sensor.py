"""The sensor that follows submitted jobs, so that no run has to wait for one.

It learns of jobs from the materializations of `finetune_job` and asks the provider how they stand: at every tick
where that is this machine, every half minute elsewhere, and at once about a job that a webhook names. While a job runs,
its progress becomes an observation of `finetuned_model`; when it succeeds, the run that evaluates it is requested, and
requested again should it fail (see `evaluations`); when it ends otherwise, the check `job_succeeded` of its region
fails with the provider's reason. Where `max_open_jobs` keeps regions waiting, it has them submitted as places become
free. The cursor holds all that is remembered; without it the event log is read again from its beginning.
"""

from __future__ import annotations

import time

import dagster as dg

from finetune_assets.errors import ProviderError
from finetune_assets.pipeline.checks.history import keep_results
from finetune_assets.pipeline.following.evaluations import Event, again_at, end_held, evaluations
from finetune_assets.pipeline.following.jobs import follow, submissions
from finetune_assets.pipeline.following.memory import Memory, Outage, learn
from finetune_assets.pipeline.held_runs import held_runs
from finetune_assets.pipeline.stage import EVALUATE, PREPARE, asset_key
from finetune_assets.provider.client import asked_as, connect
from finetune_assets.task import Task

_TIMEOUT_S = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10, 600
"""Between attempts to reach a provider that does not answer; each is twice as long as the one before."""
ASKING_SECONDS = 25
"""How long a tick asks the provider. It is ended after 60, and the last answer may take 20 of them."""
_SAID = 5
"""Regions that a quiet tick names."""


def job_sensor(task: Task) -> dg.SensorDefinition:
    """Return the sensor `<task>_jobs`, with the jobs whose runs it requests: `<task>_prepare` and `<task>_evaluate`."""
    parts = {
        "prepare": (PREPARE, "From labelled examples to a submitted job."),
        "evaluate": (EVALUATE, "From a finished job to a calibrated model."),
    }
    jobs = [
        dg.define_asset_job(
            f"{task.task}_{name}",
            [asset_key(task, stage) for stage in stages],
            description=f"{what} {task.description}",
            tags=task.run_tags,
        )
        for name, (stages, what) in parts.items()
    ]

    @dg.sensor(
        jobs=jobs,
        name=f"{task.task}_jobs",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Follows submitted fine-tuning jobs and has each region evaluated when its job succeeds.",
    )
    def follow_jobs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory, instance = Memory.of(context.cursor), _instance_of(context)
        memory.tick += 1
        # Looked for first: a run is held after its job was told of, and would not be missed here.
        held = held_runs(instance, task)
        for gone in learn(instance, task, memory):
            context.log.warning(gone)
        requests, events, elsewhere = list[dg.RunRequest](), list[Event](), ""
        if _provider_is_asked(memory):
            before = memory.model_copy(deep=True)
            try:
                until = time.monotonic() + ASKING_SECONDS
                client = connect(task.provider).with_options(timeout=_TIMEOUT_S, max_retries=1)
                requests = submissions(instance, client, task, memory)
                events = follow(client, task, memory, until)
                _answers(context, task, memory)
                elsewhere = _elsewhere(memory, asked_as(client))
            except ProviderError as error:
                memory, requests = before, []
                _unreachable(context, memory, error)
        # Even where the provider does not answer: what has failed is told.
        to_evaluate, told = evaluations(instance, task, memory, held)
        requests, events = requests + to_evaluate, events + told
        end_held(instance, memory, held, events)
        quiet = None if requests else f"{_quiet(task, memory)}{elsewhere}"
        return dg.SensorResult(requests, quiet, memory.model_dump_json(), asset_events=keep_results(context, events))

    return follow_jobs


def _provider_is_asked(memory: Memory) -> bool:
    if memory.outage and time.time() < memory.outage.next_at:
        return False
    return bool(memory.hinted()) or (memory.list_is_due() and bool(memory.open or memory.waiting))


_opened: dict[str, dg.DagsterInstance] = {}


def _instance_of(context: dg.SensorEvaluationContext) -> dg.DagsterInstance:
    """Return Dagster's instance, opened once in a process.

    The context's own is opened anew at every tick, and the schemas of its databases looked at: nine tenths of what a
    tick of this sensor takes, and every task has one each five seconds.
    """
    if (ref := context.instance_ref) is None:
        return context.instance
    return _opened.get(repr(ref)) or _opened.setdefault(repr(ref), dg.DagsterInstance.from_ref(ref))


def _unreachable(context: dg.SensorEvaluationContext, memory: Memory, error: ProviderError) -> None:
    """Say the error once, and wait longer each time."""
    now = time.time()
    outage = memory.outage or Outage(since=now, tries=0, next_at=now)
    if not outage.tries:
        context.log.warning(f"{_in_flight(memory)}, but their provider cannot be asked: {error}")
    outage.next_at = now + min(_FIRST_PAUSE_S * 2**outage.tries, _LONGEST_PAUSE_S)
    outage.tries += 1
    outage.why = str(error)
    memory.outage = outage


def _answers(context: dg.SensorEvaluationContext, task: Task, memory: Memory) -> None:
    if memory.outage:
        context.log.info(f"{task.provider} answers again, after {time.time() - memory.outage.since:.0f} s")
        memory.outage = None


def _quiet(task: Task, memory: Memory) -> str:
    """Say what is waited for."""
    said = _in_flight(memory)
    if memory.outage:
        return f"{said}; {memory.outage.why}; it is asked again {_when(memory.outage.next_at)}"
    if memory.open and not memory.list_is_due():
        said += f"; {task.provider} is asked again {_when(memory.list_at)}"
    if stale := [region for region, waiting in memory.waiting.items() if waiting.stale]:
        said += f"; to be prepared again first, for the YAML has changed since: {', '.join(stale[:_SAID])}"
    again = [f"{region} after {_when(again_at(due))[3:]}" for region, due in memory.due.items() if due.failed]
    return f"{said}; evaluated again: {', '.join(again[:_SAID])}" if again else said


def _in_flight(memory: Memory) -> str:
    parts = {
        "jobs in flight": memory.open,
        "regions waiting for a free place": memory.waiting,
        "models being evaluated": memory.due,
    }
    return ", ".join(f"{name}: {len(part)}" for name, part in parts.items() if part) or "no jobs in flight"


def _elsewhere(memory: Memory, here: str) -> str:
    """Say whose jobs are not followed now."""
    followed = memory.at(here)
    others = {region: job.provider for region, job in memory.open.items() if region not in followed}
    if not others:
        return ""
    named = ", ".join(sorted(set(others.values())))
    return f"; {len(others)} of them at {named}, which the task does not name now: followed again when it does"


def _when(moment: float) -> str:
    return time.strftime("at %H:%M:%S UTC", time.gmtime(moment))
