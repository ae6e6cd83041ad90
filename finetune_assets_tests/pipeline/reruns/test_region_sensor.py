"""The sensor that registers the regions which come into a task's data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from finetune_assets.pipeline.reruns.region_sensor import region_sensor
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task, write_cells


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def look_for_regions(task: Task, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    result = region_sensor(task)(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def test_regions_that_come_into_the_data_are_registered_and_nothing_is_launched(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    source = write_cells(tmp_path, n=2)
    task = make_task(regions="discover", source=source)

    first = look_for_regions(task, instance)
    instance.add_dynamic_partitions("cells_regions", ["mono"])
    with Path(source["path"]).open("a") as table:
        table.write('{"image_url": "x.png", "score": 1, "region": "New Land"}\n')
    second = look_for_regions(task, instance, first.cursor)

    [request] = first.dynamic_partitions_requests or []
    assert (request.partitions_def_name, list(request.partition_keys)) == ("cells_regions", ["mono"])
    [request] = second.dynamic_partitions_requests or []
    assert list(request.partition_keys) == ["new-land"]
    assert not first.run_requests and not second.run_requests


def test_a_region_that_waits_is_named_with_what_starts_it(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    source = write_cells(tmp_path, n=2)
    task = make_task(regions="discover", source=source)
    first = look_for_regions(task, instance)
    instance.add_dynamic_partitions("cells_regions", ["mono"])
    by_hand = "Materialise a new region once in Dagster, or set `rerun` in the task's YAML to have it prepared."

    later = region_sensor(task)(dg.build_sensor_context(instance, cursor=first.cursor))
    scheduled = make_task(regions="discover", source=source, rerun={"schedule": "0 2 * * *"})
    by_itself = region_sensor(scheduled)(dg.build_sensor_context(instance, cursor=first.cursor))

    assert first.skip_reason is not None and first.skip_reason.skip_message == f"new: mono. {by_hand}"
    assert isinstance(later, dg.SkipReason) and isinstance(by_itself, dg.SkipReason)
    assert later.skip_message == f"the data has not changed; never prepared: mono. {by_hand}"
    assert (by_itself.skip_message or "").endswith("The schedule `cells_rerun` prepares a new region (0 2 * * *, UTC).")
    assert by_hand in str(region_sensor(task).description)


def test_data_that_has_not_changed_is_not_read_again(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    task = make_task(regions="discover", source=write_cells(tmp_path, n=2))
    first = look_for_regions(task, instance)

    result = region_sensor(task)(dg.build_sensor_context(instance, cursor=first.cursor))

    assert isinstance(result, dg.SkipReason) and result.skip_message == "the data has not changed"


def test_data_that_cannot_be_read_is_said(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    source = {"kind": "scored_images", "path": str(tmp_path / "none.csv")}

    result = region_sensor(make_task(regions="discover", source=source))(dg.build_sensor_context(instance))

    assert isinstance(result, dg.SkipReason)
    assert "cannot be read" in (result.skip_message or "") and "none.csv" in (result.skip_message or "")
