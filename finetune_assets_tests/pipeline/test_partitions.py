"""Regions as partitions: fixed by the YAML file, or discovered and registered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from finetune_assets.errors import SourceError
from finetune_assets.pipeline.partitions import compare_regions, known_regions, region_partitions, register_regions
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task, write_cells


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def discovering(tmp_path: Path) -> Task:
    """A task whose data names the regions mono and poly."""
    extra = ['{"image_url": "x.png", "score": 1, "region": "Poly"}', '{"image_url": "y.png", "score": 1}']
    return make_task(regions="discover", source=write_cells(tmp_path / "cells", n=2, extra=extra))


def test_regions_of_the_yaml_file_are_static(instance: dg.DagsterInstance) -> None:
    task = make_task(regions=["mono", "poly"])
    assert region_partitions(task) == dg.StaticPartitionsDefinition(["mono", "poly"])
    assert (known_regions(task, instance), compare_regions(task, instance).new) == (["mono", "poly"], [])


def test_regions_to_discover_are_dynamic_under_the_task_s_name(discovering: Task) -> None:
    assert region_partitions(discovering) == dg.DynamicPartitionsDefinition(name="cells_regions")


def test_what_is_in_the_data_and_not_registered_is_new(discovering: Task, instance: dg.DagsterInstance) -> None:
    assert (known_regions(discovering, instance), compare_regions(discovering, instance).new) == ([], ["mono", "poly"])
    instance.add_dynamic_partitions("cells_regions", ["mono"])
    assert (known_regions(discovering, instance), compare_regions(discovering, instance).new) == (["mono"], ["poly"])


def test_regions_may_be_registered_without_waiting_for_the_sensor(discovering: Task, tmp_path: Path) -> None:
    for _ in range(2):
        register_regions(discovering, tmp_path)
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert sorted(known_regions(discovering, instance)) == ["mono", "poly"]


def test_data_that_cannot_be_read_registers_nothing(tmp_path: Path) -> None:
    task = make_task(regions="discover", source={"kind": "scored_images", "path": str(tmp_path / "none.csv")})
    with pytest.raises(SourceError, match=r"none\.csv"):
        register_regions(task, tmp_path)
