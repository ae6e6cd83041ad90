"""The nightly schedule: it prepares exactly the regions whose data or feedback has changed, and says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from finetune_assets.pipeline.code_versions import code_version
from finetune_assets.pipeline.component import build_task
from finetune_assets.pipeline.reruns.changes import WHY, changed_data
from finetune_assets.pipeline.resources import output_resources
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.reviewers import judge
from finetune_assets_tests.pipeline.tasks import STAGES, Project, make_task

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

    def changed(self, **changes: Any) -> Night:
        """The same project, its YAML changed."""
        task = Task.model_validate(self.project.task.model_dump() | changes)
        return Night(Project(task, self.project.root, self.project.instance), self.table)

    def falls(self) -> tuple[dict[str, str], str | None]:
        """Why each region is run, and why none is."""
        requests, skipped = self.requests("cells_rerun")
        return {str(one.partition_key): one.tags[WHY] for one in requests}, skipped

    def requests(self, name: str) -> tuple[Sequence[dg.RunRequest], str | None]:
        """What a schedule asks for."""
        resources = output_resources(str(self.project.root))
        definitions = dg.Definitions.merge(build_task(self.project.task), dg.Definitions(resources=resources))
        schedule, given = definitions.resolve_schedule_def(name), {"outputs": resources["outputs"]}
        repository = definitions.get_repository_def()
        with dg.build_schedule_context(self.project.instance, None, given, repository) as context:
            found = schedule.evaluate_tick(context)
        return found.run_requests or [], found.skip_message


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
            for stage in STAGES[3:]:
                tags = {"dagster/code_version": code_version(project.task, stage)}
                facts = {"job_id": "ftjob-1"}
                made = dg.AssetMaterialization(["cells", stage], partition=region, metadata=facts, tags=tags)
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
    assert night.falls() == (
        {},
        "neither data, feedback nor the YAML has changed in any region since its last run",
    )
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


SHARES = {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2}


@pytest.mark.parametrize(
    ("changes", "since"),
    [
        ({"sampling": SHARES | {"seed": 7}}, "sampled_examples"),
        ({"filtering": {"near_duplicates": False, "personal_data": True}}, "filtered_qa"),
        ({"prompt": {"user": "Now then: {question}"}}, "training_jsonl"),
        ({"method": {"n_epochs": 3}}, "validation_report"),
        ({"base_model": "gpt-4.1-mini-2025-04-14"}, "validation_report"),
        ({"provider": "https://one.example/v1"}, "validation_report"),
    ],
)
def test_what_a_change_of_the_yaml_made_stale_is_made_again_from_there_on(
    night: Night, changes: dict[str, Any], since: str
) -> None:
    requests, _ = night.changed(**changes).requests("cells_rerun")
    assert [one.partition_key for one in requests] == ["mono", "poly"]
    assert requests[0].tags[WHY] == f"the task's YAML has changed what {since} reads"
    stages = [key.path[-1] for key in requests[0].asset_selection or []]
    assert stages == list(PREPARE[PREPARE.index(since) :])
    assert not night.changed(**changes).requests("cells_judge_again")[0]


def test_other_words_for_the_answers_have_all_of_it_made_again(night: Night) -> None:
    # The file of this copy is another one, so that its rows are compared, and read otherwise they are others.
    words = {"kind": "binary", "positive": "Oui", "negative": "Non"}
    requests, _ = night.changed(answer=words).requests("cells_rerun")
    assert {one.partition_key for one in requests} == {"mono", "poly"}
    made = [one.asset_selection or [dg.AssetKey(["cells", stage]) for stage in PREPARE] for one in requests]
    assert [[key.path[-1] for key in keys] for keys in made] == [list(PREPARE)] * 2


@pytest.mark.parametrize(
    ("changes", "since"),
    [
        ({"benchmark": {"metric": "balanced_accuracy"}}, "benchmark"),
        ({"benchmark": {"defer": {"target_accuracy": 0.9}}}, "calibrator"),
        ({"promotion": "approval"}, "champion"),
    ],
)
def test_models_that_the_yaml_judges_otherwise_are_judged_again_and_not_trained(
    night: Night, changes: dict[str, Any], since: str
) -> None:
    changed = night.changed(**changes)
    assert changed.falls()[0] == {}
    requests, _ = changed.requests("cells_judge_again")
    assert [key.path[-1] for key in requests[0].asset_selection or []] == list(EVALUATE[EVALUATE.index(since) :])


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "another"},
        {"budget_usd": 3.0},
        {"max_open_jobs": 2},
        {"checks": {"split_sizes": "off"}},
        {"benchmark": {"concurrency": 3}},
        {"review": {"judgements": 3}},
    ],
)
def test_what_nothing_is_made_of_has_nothing_made_again(night: Night, changes: dict[str, Any]) -> None:
    changed = night.changed(**changes)
    assert changed.falls()[0] == {}
    assert changed.requests("cells_judge_again") == ([], "the YAML judges every model as it did")


def stale(night: Night, *stages: str) -> list[str]:
    """Which of these stages Dagster shows as stale."""
    graph = dg.Definitions(
        night.project.assets, resources=output_resources(str(night.project.root))
    ).resolve_asset_graph()
    seen = CachingStaleStatusResolver(night.project.instance, graph, LoadingContextForTest(night.project.instance))
    return [name for name in stages if seen.get_status(dg.AssetKey(["cells", name]), "mono").value == "STALE"]


def test_dagster_shows_as_stale_what_is_and_nothing_else(night: Night) -> None:
    assert stale(night, *FILTERED) == []
    assert stale(night.changed(description="another"), *FILTERED) == []
    assert "filtered_qa" in stale(night.changed(filtering={"personal_data": True, "near_duplicates": False}), *FILTERED)
    # Of the project that this one is a copy of the examples name another file.
    assert night.project.run(*FILTERED).success
    assert night.project.run("sampled_examples").success
    assert stale(night, *FILTERED) == [], "what comes out as before makes nothing stale"
    write_rows(night.table, {"mono": 70, "poly": 80})
    assert night.project.run("sampled_examples").success
    assert stale(night, *FILTERED) == ["filtered_qa"]
