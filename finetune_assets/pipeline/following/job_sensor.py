"""The sensor that follows submitted jobs, so that no run has to wait for one.

It learns of jobs from the materializations of `finetune_job` and asks the provider how they stand: at every tick
where that is this machine, every half minute elsewhere, and at once about a job that a webhook names. While a job runs,
its progress becomes an observation of `finetuned_model`; when it succeeds, the run that evaluates it is requested; when
it ends otherwise, the check `job_succeeded` of its region fails with the provider's reason. Where `max_open_jobs` keeps
regions waiting, it has them submitted as places become free. The cursor holds all that is remembered; without it the
event log is read again from its beginning, and the run keys keep runs from repeating.
"""

from __future__ import annotations

import time

import dagster as dg

from finetune_assets.errors import ProviderError
from finetune_assets.pipeline.following.jobs import follow, submissions
from finetune_assets.pipeline.following.memory import Memory, Outage, learn
from finetune_assets.pipeline.stage import EVALUATE, PREPARE, asset_key
from finetune_assets.provider.client import connect
from finetune_assets.task import Task

_TIMEOUT_S = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10, 600
"""Between attempts to reach a provider that does not answer; each is twice as long as the one before."""


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
    def follow_jobs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        memory = Memory.model_validate_json(context.cursor) if context.cursor else Memory()
        if memory.outage and time.time() < memory.outage.next_at:
            return dg.SkipReason(f"{memory.outage.why}; it is asked again {_when(memory.outage.next_at)}")
        learn(_instance_of(context), task, memory)
        if not memory.open and not memory.waiting:
            return dg.SensorResult(skip_reason="no jobs in flight", cursor=memory.model_dump_json())
        if not memory.list_is_due() and not memory.hinted():
            quiet = f"{_in_flight(memory)}; {task.provider} is asked again {_when(memory.list_at)}"
            return dg.SensorResult(skip_reason=quiet, cursor=memory.model_dump_json())
        before = memory.model_copy(deep=True)
        try:
            client = connect(task.provider).with_options(timeout=_TIMEOUT_S, max_retries=1)
            requests, events = follow(client, task, memory)
            requests += submissions(client, task, memory)
        except ProviderError as error:
            return _unreachable(context, before, error)
        if memory.outage:
            context.log.info(f"{task.provider} answers again, after {time.time() - memory.outage.since:.0f} s")
            memory.outage = None
        quiet = None if requests else _in_flight(memory)
        return dg.SensorResult(requests, quiet, memory.model_dump_json(), asset_events=events)

    return follow_jobs


_opened: dict[str, dg.DagsterInstance] = {}


def _instance_of(context: dg.SensorEvaluationContext) -> dg.DagsterInstance:
    """Return Dagster's instance, opened once in a process.

    The context's own is opened anew at every tick, and the schemas of its databases looked at: nine tenths of what a
    tick of this sensor takes, and every task has one each five seconds.
    """
    if (ref := context.instance_ref) is None:
        return context.instance
    return _opened.get(repr(ref)) or _opened.setdefault(repr(ref), dg.DagsterInstance.from_ref(ref))


def _unreachable(context: dg.SensorEvaluationContext, memory: Memory, error: ProviderError) -> dg.SensorResult:
    """Keep what was known before this tick, say the error once, and wait longer each time."""
    now = time.time()
    outage = memory.outage or Outage(since=now, tries=0, next_at=now)
    if not outage.tries:
        context.log.warning(f"jobs in flight: {len(memory.open)}, but their provider cannot be asked: {error}")
    outage.next_at = now + min(_FIRST_PAUSE_S * 2**outage.tries, _LONGEST_PAUSE_S)
    outage.tries += 1
    outage.why = str(error)
    memory.outage = outage
    why = f"jobs in flight: {len(memory.open)}; {error}; asked again {_when(outage.next_at)}"
    return dg.SensorResult(skip_reason=why, cursor=memory.model_dump_json())


def _in_flight(memory: Memory) -> str:
    waiting = f", regions waiting for a free place: {len(memory.waiting)}" if memory.waiting else ""
    return f"jobs in flight: {len(memory.open)}{waiting}"


def _when(moment: float) -> str:
    return time.strftime("at %H:%M:%S UTC", time.gmtime(moment))
