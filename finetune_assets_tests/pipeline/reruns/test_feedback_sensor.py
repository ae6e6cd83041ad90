"""The sensor that has a region trained again: from reviewers' decisions to run requests, none lost and none twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from finetune_assets.pipeline.reruns.changes import WHY
from finetune_assets.pipeline.reruns.feedback_sensor import MAX_ATTEMPTS, feedback_sensor
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.task import Rerun
from finetune_assets_tests.pipeline.reviewers import judge, undo
from finetune_assets_tests.pipeline.tasks import Project, make_task, write_cells

FILTERED = ("sampled_examples", "human_feedback", "filtered_qa")


@dataclass
class Watched:
    """A project of two regions whose sensor is ticked by hand."""

    project: Project
    cursor: str | None = None
    said: str | None = None
    asked: dict[str, dg.RunRequest] = field(default_factory=dict)
    """The newest request for each region."""

    def tick(self) -> list[dg.RunRequest]:
        sensor = feedback_sensor(self.project.task, Rerun(min_corrections=5))
        resources = {"outputs": OutputsResource(root=str(self.project.root))}
        with dg.build_sensor_context(self.project.instance, cursor=self.cursor, resources=resources) as context:
            result = sensor(context)
        if isinstance(result, dg.SkipReason):
            self.said = result.skip_message
            return []
        assert isinstance(result, dg.SensorResult)
        self.cursor, requests = result.cursor, list(result.run_requests or [])
        self.asked |= {str(request.partition_key): request for request in requests}
        self.said = result.skip_reason.skip_message if isinstance(result.skip_reason, dg.SkipReason) else None
        return requests

    def ended(self, status: dg.DagsterRunStatus, region: str = "mono") -> None:
        """Store the run that was requested last for a region, as it ended or as it goes on."""
        request, instance = self.asked[region], self.project.instance
        tags = {**request.tags, "dagster/run_key": request.run_key or "", "dagster/partition": region}
        for run in instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": request.run_key or ""})):
            instance.delete_run(run.run_id)
        instance.add_run(dg.DagsterRun("cells_prepare", tags=tags, status=status))

    def submit(self, job_id: str = "ftjob-1", region: str = "mono") -> None:
        self.report("finetune_job", job_id, region)
        self.report("finetuned_model", job_id, region)
        self.report("champion", job_id, region)

    def report(self, stage: str, job_id: str, region: str = "mono") -> None:
        made = dg.AssetMaterialization(["cells", stage], partition=region, metadata={"job_id": job_id})
        self.project.instance.report_runless_asset_event(made)

    def ids(self, answer: str, region: str = "mono") -> list[str]:
        clean = pd.read_parquet(self.project.output("filtered_qa", ".parquet", region))
        return clean.loc[(clean["answer"] == answer) & (clean["split"] == "train"), "example_id"].tolist()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{tmp_path / 'reviews.sqlite'}")
    sources = [write_cells(tmp_path / region, region=region) for region in ("mono", "poly")]
    both = tmp_path / "both.jsonl"
    lines = "".join(Path(source["path"]).read_text() for source in sources)
    both.write_text(lines.replace('"mono-', '"mono/mono-').replace('"poly-', '"poly/poly-'))
    task = make_task(source=sources[0] | {"path": str(both)}, regions=["mono", "poly"])
    with dg.DagsterInstance.ephemeral() as instance:
        found = Watched(Project(task, tmp_path / "outputs", instance))
        for region in ("mono", "poly"):
            assert found.project.run(*FILTERED, region=region).success
            found.submit(region=region)
        yield found


def test_nothing_is_asked_for_where_nobody_reviews(watched: Watched) -> None:
    assert not watched.tick()
    assert "decided nothing anew" in (watched.said or "")


def test_a_region_is_asked_for_once_when_enough_of_it_is_decided_anew(watched: Watched) -> None:
    judge(watched.ids("No")[:4], "Yes")
    assert not watched.tick()
    assert watched.said == "mono: 4 of 5 decided anew"
    judge(watched.ids("No")[4:5], "Yes")
    [request] = watched.tick()
    assert (request.partition_key, request.tags[WHY]) == ("mono", "5 new decisions of reviewers")
    watched.ended(dg.DagsterRunStatus.STARTED)
    assert not watched.tick() and not watched.tick()


def test_confirmed_labels_and_skipped_second_opinions_wake_nobody(watched: Watched) -> None:
    judge(watched.ids("Yes")[:10], "Yes")
    assert not watched.tick()
    judge(watched.ids("No")[:4], "Yes")
    judge(watched.ids("No")[:4], "Yes", reviewer="ben")
    assert not watched.tick()
    assert watched.said == "mono: 4 of 5 decided anew"


def test_what_was_applied_is_not_asked_for_again_but_its_undoing_is(watched: Watched) -> None:
    judge(watched.ids("No")[:6], "Yes")
    assert len(watched.tick()) == 1
    assert watched.project.run(*FILTERED).success
    watched.submit("ftjob-2")
    watched.ended(dg.DagsterRunStatus.SUCCESS)
    assert not watched.tick()
    undo(6)
    [request] = watched.tick()
    assert request.tags[WHY] == "6 new decisions of reviewers"


def test_what_is_decided_while_a_run_goes_on_counts_for_the_next_one(watched: Watched) -> None:
    wrong = watched.ids("No")
    judge(wrong[:5], "Yes")
    [first] = watched.tick()
    assert watched.project.run(*FILTERED).success
    watched.ended(dg.DagsterRunStatus.STARTED)
    judge(wrong[5:10], "Yes")
    assert not watched.tick()
    assert "its run was requested" in (watched.said or "")
    watched.ended(dg.DagsterRunStatus.SUCCESS)
    watched.submit("ftjob-2")
    [second] = watched.tick()
    assert second.run_key != first.run_key
    assert second.tags[WHY] == "5 new decisions of reviewers"


def test_a_failed_run_is_asked_for_again_after_pauses_that_grow(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    judge(watched.ids("No")[:5], "Yes")
    began, minutes, keys = now, [], set()
    while now < began + 3600:
        for request in watched.tick():
            minutes.append((now - began) / 60)
            keys.add(request.run_key)
            watched.ended(dg.DagsterRunStatus.FAILURE)
        now += 60
    assert minutes == [0, 1, 3, 7, 15, 31]
    assert len(keys) == MAX_ATTEMPTS == 6
    assert watched.said == "mono: attempt 6 failed, look at its run"
    judge(watched.ids("No")[5:6], "Yes")
    assert not watched.tick(), "the pause after the last attempt is not over"
    now += 300
    assert len(watched.tick()) == 1


def test_a_run_that_fails_after_it_has_read_the_feedback_is_asked_for_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    judge(watched.ids("No")[:5], "Yes")
    assert len(watched.tick()) == 1
    assert watched.project.run(*FILTERED).success
    watched.ended(dg.DagsterRunStatus.FAILURE)
    assert not watched.tick()
    assert "attempt 1 failed, tried again after" in (watched.said or "")
    now += 61
    [again] = watched.tick()
    assert again.tags[WHY].endswith("attempt 2, the one before failed")


def test_a_lost_cursor_asks_by_the_same_key(watched: Watched) -> None:
    judge(watched.ids("No")[:5], "Yes")
    [first] = watched.tick()
    watched.cursor = None
    [again] = watched.tick()
    assert first.run_key == again.run_key


def test_a_region_whose_model_is_being_trained_or_evaluated_waits_for_its_end(watched: Watched) -> None:
    watched.report("finetune_job", "ftjob-2")
    judge(watched.ids("No")[:5], "Yes")
    assert not watched.tick()
    assert watched.said == "mono: its job is being trained"
    watched.report("finetuned_model", "ftjob-2")
    assert not watched.tick()
    assert watched.said == "mono: its model is being evaluated"
    watched.report("champion", "ftjob-2")
    assert [request.partition_key for request in watched.tick()] == ["mono"]


def test_a_database_that_does_not_answer_is_said(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", "postgresql://anna:secret@127.0.0.1:9/reviews")
    assert not watched.tick()
    assert "127.0.0.1" in (watched.said or "") and "secret" not in (watched.said or "")
