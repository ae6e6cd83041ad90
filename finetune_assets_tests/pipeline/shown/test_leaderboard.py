"""The asset `leaderboard`, made by hand and kept up by its sensor."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
from upath import UPath

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.shown.leaderboard import KEY, Kept, gains_by_region, write_leaderboard
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.results.files import write_json
from finetune_assets_tests.evaluation.predictions import predictions
from finetune_assets_tests.pipeline.tasks import make_task

TASK = make_task(regions=["mono", "r2.a"])


def evaluate(root: Path | UPath, region: str) -> None:
    """Leave what the stages leave of a region."""
    folder = UPath(root) / TASK.task
    write_json(folder / "benchmark" / f"{region}.json", compare(predictions()).to_dict())
    write_json(folder / "finetuned_model" / f"{region}.json", {"cost_usd": None})


def test_it_has_a_row_for_each_region_that_was_evaluated(tmp_path: Path) -> None:
    evaluate(tmp_path, "mono")
    evaluate(tmp_path, "r2.a")
    result = dg.materialize(
        [gains_by_region([TASK]).get_assets_def(KEY)], resources={"outputs": OutputsResource(root=str(tmp_path))}
    )
    [made] = result.asset_materializations_for_node("leaderboard")
    assert str(made.metadata["summary"].value).startswith("2 regions of 1 task")
    assert "| cells | r2.a | 120 |" in str(made.metadata["regions"].value)
    assert "data:image/png" in str(made.metadata["gains"].value)
    assert "<!doctype html>" in (tmp_path / "leaderboard.html").read_text()


def test_before_any_region_was_evaluated_it_says_so(tmp_path: Path) -> None:
    result = dg.materialize(
        [gains_by_region([TASK]).get_assets_def(KEY)], resources={"outputs": OutputsResource(root=str(tmp_path))}
    )
    [made] = result.asset_materializations_for_node("leaderboard")
    assert made.metadata["summary"].value == "no region has been evaluated yet"


def test_the_sensor_makes_it_again_when_something_was_evaluated(tmp_path: Path) -> None:
    resources = {"outputs": OutputsResource(root=str(tmp_path))}
    definitions = dg.Definitions.merge(gains_by_region([TASK]), dg.Definitions(resources=resources))
    sensor = definitions.resolve_sensor_def("leaderboard")
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str | None) -> dg.SensorResult:
            result = sensor(dg.build_sensor_context(instance, cursor=cursor, resources=resources))
            assert isinstance(result, dg.SensorResult)
            return result

        nothing = tick(None)
        evaluate(tmp_path, "mono")
        instance.report_runless_asset_event(dg.AssetMaterialization(asset_key(TASK, "benchmark"), partition="mono"))
        first = tick(nothing.cursor)
        again = tick(first.cursor)
    assert not nothing.asset_events and not again.asset_events
    [made] = first.asset_events
    assert made.asset_key == KEY and "1 region of 1 task" in str(made.metadata["summary"].value)


def test_what_is_stored_of_three_hundred_regions_is_small_and_its_files_hold_all(
    tmp_path: Path,
) -> None:
    evaluate(tmp_path, "r0")
    folder = tmp_path / TASK.task
    for number in range(1, 300):
        for stage in ("benchmark", "finetuned_model"):
            (folder / stage / f"r{number}.json").symlink_to(folder / stage / "r0.json")
    kept = Kept()
    with pytest.raises(TimeoutError):
        kept.read([TASK], UPath(tmp_path), until=0)
    shown = write_leaderboard(kept.read([TASK], UPath(tmp_path)), str(tmp_path))
    event = dg.AssetMaterialization(KEY, metadata=shown)
    assert len(dg.serialize_value(event)) < 50_000
    assert shown["n_better"] + shown["n_worse"] + shown["n_inconclusive"] == 300
    assert len(json.loads((tmp_path / "leaderboard.json").read_text())["rows"]) == 300
