"""From one YAML file to a task's definitions."""

from __future__ import annotations

import itertools
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.observe import observe

from finetune_assets.errors import TaskError
from finetune_assets.pipeline.component import FineTuningTask, build_task
from finetune_assets.pipeline.resources import output_resources
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import STAGES, make_task, write_cells


@pytest.fixture
def definitions(tmp_path: Path) -> dg.Definitions:
    task = make_task(regions=["mono", "poly"], rerun={"schedule": "0 2 * * *"})
    shared = dg.Definitions(resources=output_resources(str(tmp_path)), executor=dg.in_process_executor)
    return dg.Definitions.merge(build_task(task), shared)


def whole(task: Task) -> dg.Definitions:
    return dg.Definitions.merge(build_task(task), dg.Definitions(resources=output_resources("outputs")))


def outputs(folder: Path) -> dict[str, Any]:
    return {"outputs": output_resources(str(folder))["outputs"]}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dg.Definitions]]:
    """Load a project whose only `defs.yaml` says what is given."""
    folder = tmp_path / "made_up/defs/cells"
    folder.mkdir(parents=True)
    for package in (tmp_path / "made_up", tmp_path / "made_up/defs"):
        (package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "made_up"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", str(tmp_path))

    def load(**changes: object) -> dg.Definitions:
        attributes = make_task().model_dump(mode="json") | changes
        content = {"type": "finetune_assets.pipeline.FineTuningTask", "attributes": attributes}
        (folder / "defs.yaml").write_text(yaml.safe_dump(content))
        return dg.load_from_defs_folder(path_within_project=tmp_path)

    yield load
    for name in [name for name in sys.modules if name.split(".")[0] == "made_up"]:
        del sys.modules[name]


def test_ten_assets_and_the_champion_are_in_the_task_s_group_partitioned_by_its_regions(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    stages = {dg.AssetKey(["cells", stage]) for stage in STAGES}
    assert graph.get_all_asset_keys() == stages | {dg.AssetKey(["cells", "source"])}
    for key in stages:
        node = graph.get(key)
        assert node.group_name == "cells" and node.description
        assert node.partitions_def is not None and node.partitions_def.get_partition_keys() == ["mono", "poly"]


def test_the_stages_hang_together_in_order(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    sampled, feedback, *rest = STAGES
    for earlier, later in [(sampled, rest[0]), (feedback, rest[0]), *itertools.pairwise(rest)]:
        above = graph.get_ancestor_asset_keys(dg.AssetKey(["cells", later]))
        assert dg.AssetKey(["cells", earlier]) in above


def test_every_check_has_a_result_for_each_region(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    blocking = set()
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert spec.partitions_def is not None and spec.description
        blocking |= {key.name} if spec.blocking else set()
    assert blocking == {
        "enough_examples",
        "both_answers",
        "no_leakage",
        "valid_format",
        "within_budget",
        "small_enough",
        "job_succeeded",
        "enough_scores",
        "groups_divide",
        "unseen_test",
        "answers_given",
        "never_seen",
        "labels_not_bent",
    }


def test_the_jobs_split_the_stages_at_the_submitted_job(definitions: dg.Definitions) -> None:
    prepare, evaluate = (definitions.resolve_job_def(f"cells_{name}") for name in ("prepare", "evaluate"))
    assert {key.path[-1] for key in prepare.asset_layer.executable_asset_keys} == set(PREPARE)
    assert {key.path[-1] for key in evaluate.asset_layer.executable_asset_keys} == set(EVALUATE)


def test_sensor_and_schedule_run_by_default(definitions: dg.Definitions) -> None:
    assert definitions.resolve_sensor_def("cells_jobs").default_status is dg.DefaultSensorStatus.RUNNING
    schedule = definitions.resolve_schedule_def("cells_rerun")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 2 * * *", "UTC")


def test_the_schedule_prepares_every_region_that_never_was(definitions: dg.Definitions, tmp_path: Path) -> None:
    schedule = definitions.resolve_schedule_def("cells_rerun")
    repository = definitions.get_repository_def()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(instance, resources=outputs(tmp_path), repository_def=repository) as context,
    ):
        requests = schedule.evaluate_tick(context).run_requests or []
    assert [(request.run_key, request.partition_key) for request in requests] == [("mono", "mono"), ("poly", "poly")]
    assert schedule.job_name == "cells_prepare"


def test_the_sensor_s_request_is_one_that_the_evaluate_job_can_run(definitions: dg.Definitions) -> None:
    request = dg.RunRequest(run_key="ftjob-1:1", partition_key="poly")
    job = definitions.resolve_job_def("cells_evaluate")
    resolved = request.with_resolved_tags_and_config(job, [], None)
    assert resolved.tags["dagster/partition"] == "poly"


def test_the_launchpad_offers_to_take_an_earlier_checkpoint(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("cells_evaluate")
    made = dg.validate_run_config(job, {"ops": {"cells__finetuned_model": {"config": {"checkpoint_step": 40}}}})
    assert made["ops"]["cells__finetuned_model"]["config"] == {"checkpoint_step": 40}
    # What stands there unless it is changed.
    assert dg.validate_run_config(job)["ops"]["cells__finetuned_model"]["config"] == {"checkpoint_step": 0}
    with pytest.raises(dg.DagsterInvalidConfigError, match="checkpoint_stop"):
        dg.validate_run_config(job, {"ops": {"cells__finetuned_model": {"config": {"checkpoint_stop": 40}}}})


def test_regions_to_discover_are_dynamic_partitions_with_a_sensor_that_runs_by_default(tmp_path: Path) -> None:
    task = make_task(regions="discover", source=write_cells(tmp_path / "cells"))
    definitions = dg.Definitions.merge(build_task(task), dg.Definitions(resources=output_resources(str(tmp_path))))
    for node in (node for node in definitions.resolve_asset_graph().asset_nodes if node.key.path[-1] in STAGES):
        assert node.partitions_def == dg.DynamicPartitionsDefinition(name="cells_regions")
    sensor = definitions.resolve_sensor_def("cells_regions")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_the_schedule_prepares_the_regions_that_were_registered(tmp_path: Path) -> None:
    task = make_task(regions="discover", source=write_cells(tmp_path / "cells"), rerun={})
    definitions = dg.Definitions.merge(build_task(task), dg.Definitions(resources=output_resources(str(tmp_path))))
    schedule = definitions.resolve_schedule_def("cells_rerun")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("cells_regions", ["mono", "poly"])
        repository = definitions.get_repository_def()
        with dg.build_schedule_context(instance, resources=outputs(tmp_path), repository_def=repository) as context:
            requests = schedule.evaluate_tick(context).run_requests or []
    assert [request.partition_key for request in requests] == ["mono", "poly"]


def test_a_check_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        TaskError, match=r"checks\.no_leaks does not exist \(did you mean no_leakage\?\); there are .*no_leakage"
    ):
        build_task(make_task(checks={"no_leaks": "off"}))


def test_a_relative_path_is_looked_for_beside_the_yaml_file(
    load: Callable[..., dg.Definitions], tmp_path: Path
) -> None:
    write_cells(tmp_path / "made_up/defs/cells/pictures", n=20)
    source = {"kind": "scored_images", "path": "pictures/cells.jsonl"}
    definitions = load(source=source, sampling={"train": 12, "validation": 2, "calibration": 2, "test": 4})
    job = definitions.resolve_implicit_global_asset_job_def()
    made = job.execute_in_process(asset_selection=[dg.AssetKey(["cells", "sampled_examples"])], partition_key="mono")
    assert made.success


def test_a_task_that_asks_for_no_schedule_has_none() -> None:
    assert not build_task(make_task()).schedules


def test_a_yaml_file_makes_the_task_and_the_tables_over_all_tasks(load: Callable[..., dg.Definitions]) -> None:
    keys = load(regions=["north"]).resolve_all_asset_keys()
    tables = {dg.AssetKey("leaderboard"), dg.AssetKey("finetune_jobs")}
    assert set(keys) == {dg.AssetKey(["cells", stage]) for stage in STAGES} | tables | {
        dg.AssetKey(["cells", "source"])
    }


def test_a_task_in_a_folder_of_another_name_is_refused_where_nobody_would_find_it(
    load: Callable[..., dg.Definitions],
) -> None:
    with pytest.raises(Exception, match=r"cells\[0\]") as caught:
        load(task="marks")
    assert "must be the folder's name, cells, got 'marks'" in str(caught.value.__cause__)


def test_names_that_are_not_there_are_refused_where_definitions_are_checked(
    load: Callable[..., dg.Definitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(provider="openai", base_model="gpt-4o-minni-2024-07-18").sensors
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")  # as `dg check defs` does
    with pytest.raises(Exception, match=r"cells\[0\]") as caught:
        load(provider="openai", base_model="gpt-4o-minni-2024-07-18")
    assert "defs.yaml:" in (said := str(caught.value.__cause__))
    assert "base_model: 'gpt-4o-minni-2024-07-18' is no model that is known at openai (did you mean gpt-4o-mini" in said


def test_every_key_that_a_task_may_have_is_described() -> None:
    def lacking(schema: dict[str, Any], place: str) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            if not (field.get("description") or "const" in field):
                yield f"{place}.{name}"

    whole = Task.model_json_schema()
    parts = {"task": whole, **whole["$defs"]}
    assert [found for name, part in parts.items() for found in lacking(part, name)] == []
    assert all(part.get("description") for part in parts.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tsak": 1}, "tsak: there is no such key (did you mean task?)"),
        ({"regions": "mono"}, "regions: must be a list, got 'mono'; write [mono]"),
        ({"source": {"kind": "table", "path": "t.csv", "question": "title"}}, "source.question: must name a column"),
        ({"method": {"n_epochs": "soon"}}, "method.n_epochs: must be a whole number or auto, got 'soon'"),
        (
            {"source": {"kind": "elpv", "questoin": "x"}},
            "source.questoin: there is no such key (did you mean question?)",
        ),
    ],
)
def test_a_mistake_in_the_yaml_names_file_line_and_key(
    load: Callable[..., dg.Definitions], changes: dict[str, object], said: str
) -> None:
    with pytest.raises(Exception, match=r"cells\[0\]") as caught:
        load(**changes)
    told = "".join(traceback.format_exception(caught.value))
    assert re.search(rf"cells/defs\.yaml:\d+: {re.escape(said)}", told)


def test_editors_and_dg_are_told_what_a_task_may_say() -> None:
    model = FineTuningTask.get_model_cls()
    assert model.model_json_schema()["properties"].keys() == Task.model_fields.keys()


def test_the_graph_begins_at_the_source_whose_version_is_that_of_its_files(tmp_path: Path) -> None:
    task = make_task(source=write_cells(tmp_path / "cells"))
    definitions = whole(task)
    graph = definitions.resolve_asset_graph()
    source, sampled = (dg.AssetKey(["cells", name]) for name in ("source", "sampled_examples"))
    assert graph.get(sampled).parent_keys == {source} and not graph.get(source).parent_keys
    [asset] = [made for made in definitions.assets or [] if isinstance(made, dg.SourceAsset)]
    with dg.DagsterInstance.ephemeral() as instance:
        found = []
        for _ in range(2):
            observe([asset], instance=instance)
            [record] = instance.fetch_observations(source, limit=1).records
            found.append((record.asset_observation or dg.AssetObservation(source)).tags["dagster/data_version"])
            write_cells(tmp_path / "cells", n=81)
    assert found[0] != found[1]


def test_owners_tags_and_kinds_are_shown_and_runs_and_steps_have_those_that_the_yaml_says() -> None:
    task = make_task(
        owners=["team:vision", "ops@example.org"],
        tags={"cost_centre": "4711"},
        run_tags={"queue": "slow"},
        op_tags={"dagster/concurrency_key": "gpu"},
    )
    definitions = whole(task)
    node = definitions.resolve_asset_graph().get(dg.AssetKey(["cells", "filtered_qa"]))
    assert (node.owners, node.tags["cost_centre"], node.kinds) == (task.owners, "4711", {"python", "parquet"})
    prepare = definitions.resolve_job_def("cells_prepare")
    assert prepare.run_tags["queue"] == "slow"
    assert prepare.graph.node_named("cells__filtered_qa").definition.tags["dagster/concurrency_key"] == "gpu"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"owners": ["vision"]}, "must be an e-mail address, or a team as team:NAME"),
        ({"tags": {"cost centre": "4711"}}, "must be letters, digits"),
        ({"tags": {"dagster/kind/x": ""}}, "must be letters, digits"),
        ({"tags": {"dagster/x": "1"}}, "must not begin with dagster/"),
    ],
)
def test_owners_and_tags_that_dagster_would_not_take_are_refused_by_name(said: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        make_task(**said)
