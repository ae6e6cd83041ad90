"""The nightly schedule: it prepares exactly the regions whose data or feedback has changed, and says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from finetune_assets.pipeline.component import build_task
from finetune_assets.pipeline.reruns.changes import WHY, changed_data
from finetune_assets.pipeline.resources import output_resources
from finetune_assets_tests.pipeline.reviewers import judge
from finetune_assets_tests.pipeline.tasks import Project, make_task

FILTERED = ("sampled_examples", "human_feedback", "filtered_qa")


def write_rows(path: Path, regions: dict[str, int]) -> None:
    """So many questions of each region."""
    rows = [
        {"question": f"{region}: is {number} even?", "answer": "No" if number % 2 else "Yes", "region": region}
        for region, n in regions.items()
        for number in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass
class Night:
    """A project of two regions, prepared once, and its schedule."""

    project: Project
    table: Path

    @classmethod
    def at(cls, folder: Path, instance: dg.DagsterInstance) -> Night:
        table = folder / "rows.jsonl"
        task = make_task(source={"kind": "table", "path": str(table)}, regions=["mono", "poly"], rerun={})
        return cls(Project(task, folder / "outputs", instance), table)

    def falls(self) -> tuple[dict[str, str], str | None]:
        """Why each region is run, and why none is."""
        resources = output_resources(str(self.project.root))
        definitions = dg.Definitions.merge(build_task(self.project.task), dg.Definitions(resources=resources))
        schedule, given = definitions.resolve_schedule_def("cells_rerun"), {"outputs": resources["outputs"]}
        repository = definitions.get_repository_def()
        with dg.build_schedule_context(self.project.instance, None, given, repository) as context:
            found = schedule.evaluate_tick(context)
        return {str(one.partition_key): one.tags[WHY] for one in found.run_requests or []}, found.skip_message


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two regions whose jobs have ended; copied for each test, because Dagster's storage is slow to write."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "dagster").mkdir()
    write_rows(folder / "rows.jsonl", {"mono": 80, "poly": 80})
    with (
        pytest.MonkeyPatch.context() as environment,
        dg.DagsterInstance.local_temp(str(folder / "dagster")) as instance,
    ):
        environment.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{folder / 'reviews.sqlite'}")
        project = Night.at(folder, instance).project
        for region in ("mono", "poly"):
            assert project.run(*FILTERED, region=region).success
            for stage in ("finetune_job", "champion"):
                made = dg.AssetMaterialization(["cells", stage], partition=region, metadata={"job_id": "ftjob-1"})
                instance.report_runless_asset_event(made)
    return folder


@pytest.fixture
def night(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{folder / 'reviews.sqlite'}")
    with dg.DagsterInstance.local_temp(str(folder / "dagster")) as instance:
        yield Night.at(folder, instance)


def test_unchanged_regions_are_left_alone(night: Night) -> None:
    assert night.falls() == ({}, "neither data nor feedback has changed in any region since its last run")
    night.table.touch()
    assert night.falls()[0] == {}


def test_only_the_region_with_a_decision_is_run_and_its_run_says_why(night: Night) -> None:
    clean = pd.read_parquet(night.project.output("filtered_qa", ".parquet", "poly"))
    teaches = (clean["answer"] == "No") & (clean["split"] == "train")
    judge(clean.loc[teaches, "example_id"].tolist()[:1], "Yes", region="poly")
    assert night.falls()[0] == {"poly": "1 new decisions of reviewers"}


def test_only_the_region_whose_rows_changed_is_run(night: Night) -> None:
    write_rows(night.table, {"mono": 70, "poly": 80})
    assert night.falls()[0] == {"mono": "its rows in the source have changed"}


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_change_is_not_forgotten_when_its_run_ends_without_a_job(night: Night, status: dg.DagsterRunStatus) -> None:
    write_rows(night.table, {"mono": 70, "poly": 80})
    run = night.project.run("sampled_examples")
    assert run.success
    instance = night.project.instance
    report = instance.report_run_canceled if status is dg.DagsterRunStatus.CANCELED else instance.report_run_failed
    report(run.dagster_run)
    assert night.falls()[0] == {"mono": "its last run failed"}


def test_a_region_whose_rows_are_gone_is_said_and_holds_up_no_other(night: Night) -> None:
    write_rows(night.table, {"poly": 70})
    why, said = night.falls()
    assert why == {"poly": "its rows in the source have changed"}
    write_rows(night.table, {"poly": 80})
    why, said = night.falls()
    assert why == {} and str(said).startswith("mono: the source has no rows of it any more; its model stays")


def test_a_region_that_cannot_be_read_is_said_and_holds_up_no_other(night: Night) -> None:
    source = night.project.task.source.model_copy(update={"split": "{split}"})
    night.project.task = night.project.task.model_copy(update={"source": source})
    rows = [
        {"question": f"is {number} odd?", "answer": "Yes", "region": region, "split": split}
        for region, split in (("mono", "nonsense"), ("poly", "train"))
        for number in range(9)
    ]
    night.table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert night.falls()[0] == {"poly": "its rows in the source have changed"}
    changed = changed_data(night.project.instance, night.project.task, ["mono", "poly"])
    assert list(changed.doubts) == ["mono"] and "nonsense" in changed.doubts["mono"]


def test_a_region_whose_run_failed_is_tried_again(night: Night) -> None:
    write_rows(night.table, {"mono": 8, "poly": 80})
    assert not night.project.run(*FILTERED).success
    assert night.falls()[0] == {"mono": "its last run failed"}


def test_a_region_at_work_waits_and_the_tick_says_so(night: Night) -> None:
    write_rows(night.table, {"mono": 70, "poly": 80})
    tags = {"dagster/partition": "mono"}
    night.project.instance.add_run(dg.DagsterRun("cells_prepare", tags=tags, status=dg.DagsterRunStatus.STARTED))
    said = "mono: its rows in the source have changed, but a run of it is going on"
    assert night.falls() == ({}, said)


def test_data_that_is_gone_does_not_hide_feedback(night: Night) -> None:
    clean = pd.read_parquet(night.project.output("filtered_qa", ".parquet"))
    judge(clean.loc[clean["split"] == "train", "example_id"].head(3), None)
    night.table.unlink()
    assert night.falls()[0] == {"mono": "3 new decisions of reviewers"}
