"""What the assets of a task share: their keys, their order, and how a plain function becomes one of them."""

# No postponed annotations in this file: Dagster reads those of `compute` as it finds them.
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import dagster as dg

from finetune_assets.pipeline.checks.check import Check, as_asked
from finetune_assets.pipeline.code_versions import code_version, data_version
from finetune_assets.pipeline.held_runs import hold_evaluation
from finetune_assets.pipeline.partitions import region_partitions
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.results.region import Region
from finetune_assets.task import Task

PREPARE = (
    "sampled_examples",
    "human_feedback",
    "filtered_qa",
    "training_jsonl",
    "validation_report",
    "uploaded_file",
    "finetune_job",
)
"""The stages up to the submitted job."""
EVALUATE = ("finetuned_model", "benchmark", "calibrator", "champion")
"""The stages that need the job's result; the sensor requests them."""

FIRST_RUN = "finetune_assets/first_run"
"""Tag of a run that does what another one was asked for and had no place to do."""
_REGION = "finetune_assets/region"
"""Tag of a run that nobody started by hand. The queue has one such run of a region go on at a time."""

_KINDS = {"tables": "parquet", "records": "json"}
"""What the UI shows of where a stage's value is."""

Result = dg.MaterializeResult | dg.AssetCheckResult | dg.AssetObservation
StageFunction = Callable[..., Result]


@dataclass(frozen=True)
class StageBuilder:
    """Makes the asset of a stage, once its task is known."""

    build: Callable[[Task], dg.AssetsDefinition]
    checks: tuple[Check, ...]
    """All it may have; a task may switch some off, and some are of tasks of one kind."""

    def __call__(self, task: Task) -> dg.AssetsDefinition:
        """Build the asset of a task."""
        return self.build(task)


def asset_key(task: Task, stage: str) -> dg.AssetKey:
    """Return the asset key of a stage: task, stage."""
    return dg.AssetKey([task.task, stage])


def run_tags(task: Task, region: str) -> dict[str, str]:
    """Return the tags of every run that is requested for a region."""
    return {_REGION: f"{task.task}/{region}"}


def observation(region: Region, stage: str, words: str) -> dg.AssetObservation:
    """Return what is said of a stage of a region that makes nothing now."""
    return dg.AssetObservation(asset_key(region.task, stage), description=words, partition=region.name)


def stage(
    *, io: str, checks: Sequence[Check] = (), deps: Callable[[Task], list[dg.AssetKey]] | None = None
) -> Callable[[StageFunction], StageBuilder]:
    """Make an asset of a function `(region, <inputs>) -> Result`, once its task is known.

    The function's name is the stage, its docstring the description in the UI, and each parameter after `region` the
    value of the stage so named; a table comes as a DataFrame, or unread if the parameter is a `Table`. A parameter that
    is a `dg.Config` is no stage but what whoever starts a run may ask for. The function returns a materialization with
    its check results. Where there is nothing to materialize it returns an observation, and what follows is skipped; or
    a failed check alone, and the run fails in its words. The task may switch checks off and change their severity.

    Args:
        io: Resource key of the IO manager that keeps its value: "tables" or "records".
        checks: The checks whose results it returns.
        deps: What it is made from beside its inputs, and reads itself.
    """

    def decorate(function: StageFunction) -> StageBuilder:
        types = get_type_hints(function)
        given = list(inspect.signature(function).parameters)[1:]
        configs = {name: types[name] for name in given if _is_config(types[name])}
        inputs = [name for name in given if name not in configs]

        def build(task: Task) -> dg.AssetsDefinition:
            key, partitions = asset_key(task, function.__name__), region_partitions(task)

            @dg.asset(
                key=key,
                ins={name: dg.AssetIn(asset_key(task, name), dagster_type=types[name]) for name in inputs},
                group_name=task.task,
                description=inspect.getdoc(function),
                partitions_def=partitions,
                deps=deps(task) if deps else None,
                owners=task.owners,
                tags=task.tags,
                op_tags=task.op_tags,
                kinds={"python", _KINDS[io]},
                io_manager_key=io,
                code_version=code_version(task, function.__name__),
                check_specs=[check.spec(key, partitions, task) for check in checks if check.asked(task)],
                config_schema=next((config.to_config_schema() for config in configs.values()), None),
                # A stage may have nothing to keep: a job without a model, or one that is still being trained.
                output_required=False,
            )
            def compute(context: dg.AssetExecutionContext, outputs: OutputsResource, **values: Any) -> Iterator[Any]:
                asked = {name: config(**context.op_execution_context.op_config) for name, config in configs.items()}
                run = context.run
                first = run.tags.get(FIRST_RUN) or run.root_run_id or run.run_id
                region = Region(task, context.partition_key, outputs.folder(), first)
                result = _versioned(function(region, **values, **asked))
                if isinstance(result, dg.AssetObservation):
                    waits = hold_evaluation(context, task, run_tags(task, region.name))
                    result = result._replace(description=f"{result.description}{waits}")
                yield from as_asked(task, result)
                yield from _without_results(context, result)
                if isinstance(result, dg.AssetCheckResult):
                    raise dg.Failure(result.description, allow_retries=False)

            return compute

        return StageBuilder(build, tuple(checks))

    return decorate


def _without_results(context: dg.AssetExecutionContext, result: Result) -> Iterator[dg.Output[None]]:
    """Give the output that Dagster asks of every check for those that have no result today."""
    if isinstance(result, dg.MaterializeResult):
        return
    given = {result.check_name} if isinstance(result, dg.AssetCheckResult) else set()
    for spec in context.assets_def.check_specs:
        if spec.name not in given:
            yield dg.Output(None, spec.get_python_identifier())


def _versioned(result: Result) -> Result:
    """Say what came out, where the stage does not, in place of Dagster's guess from the code version alone."""
    if not isinstance(result, dg.MaterializeResult) or result.data_version is not None:
        return result
    return result._replace(data_version=dg.DataVersion(data_version(result.value)))


def _is_config(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, dg.Config)
