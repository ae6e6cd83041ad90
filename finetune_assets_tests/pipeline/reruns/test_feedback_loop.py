"""Reviewers correct one of two regions: it alone is trained again, from the schedule's tick to its new calibrator."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import openai
import pandas as pd
import pytest

from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.reruns.changes import WHY
from finetune_assets.pipeline.reruns.feedback_sensor import feedback_sensor
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.provider import fine_tuning
from finetune_assets.task import Rerun
from finetune_assets_tests.pipeline.reviewers import agree
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task, write_cells
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("finished_region")


@dataclass
class Loop:
    """A project of two regions, of which `mono` is trained, with both of its sensors."""

    project: Project
    client: openai.OpenAI
    jobs: str | None = None

    def prepare(self, region: str) -> None:
        done = self.project.run(*PREPARE, region=region)
        assert done.success, failures(done)

    def evaluate(self, region: str) -> None:
        """Wait for the region's job, and run what the job sensor then asks for."""
        job_id = self.record("finetune_job", region)["job_id"]
        while fine_tuning.retrieve(self.client, job_id).finished_at is None:
            time.sleep(0.2)
        result = job_sensor(self.project.task)(dg.build_sensor_context(self.project.instance, cursor=self.jobs))
        assert isinstance(result, dg.SensorResult)
        self.jobs = result.cursor
        assert region in [request.partition_key for request in result.run_requests or []]
        done = self.project.run(*EVALUATE, region=region)
        assert done.success, failures(done)

    def asked(self) -> list[dg.RunRequest]:
        """What the feedback sensor asks for now."""
        resources = {"outputs": OutputsResource(root=str(self.project.root))}
        sensor = feedback_sensor(self.project.task, Rerun(min_corrections=30))
        with dg.build_sensor_context(self.project.instance, resources=resources) as context:
            result = sensor(context)
        return list(result.run_requests or []) if isinstance(result, dg.SensorResult) else []

    def record(self, stage: str, region: str) -> dict[str, str]:
        return json.loads(self.project.output(stage, ".json", region).read_text())

    def wrong(self, n: int, splits: set[str]) -> list[str]:
        """Dark cells of mono in some splits."""
        clean = pd.read_parquet(self.project.output("filtered_qa", ".parquet"))
        wanted = clean["split"].isin(list(splits)) & (clean["answer"] == "No")
        return clean.loc[wanted, "example_id"].tolist()[:n]


@pytest.fixture(scope="module")
def loop(server: ServerProcess, vision_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Both tests review it, each from where it finds it."""
    folder = tmp_path_factory.mktemp("loop")
    for region in ("mono", "poly"):
        source = write_cells(folder / "cells", n=120, region=region)
        Path(source["path"]).rename(folder / f"cells/of_{region}.jsonl")
    task = make_task(
        regions=["mono", "poly"],
        source=source | {"path": str(folder / "cells/of_*.jsonl")},
        sampling={"train": 0.4, "validation": 0.1, "calibration": 0.25, "test": 0.25},
        base_model=vision_model,
        method={"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 4},
        provider=server.base_url,
        benchmark={"elsewhere": 0},
    )
    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as environment:
        environment.setenv("FINETUNE_ASSETS_API_KEY", server.key)
        environment.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{folder / 'reviews.sqlite'}")
        found = Loop(Project(task, folder / "outputs", instance), server.client())
        found.prepare("mono")
        found.evaluate("mono")
        yield found


def test_thirty_corrections_train_their_region_again_and_no_other(loop: Loop) -> None:
    loop.prepare("poly")
    before = {region: loop.record("finetune_job", region) for region in ("mono", "poly")}
    assert not loop.asked()
    agree(loop.wrong(30, {"train", "validation", "calibration", "test"}), "Yes")
    [request] = loop.asked()
    assert (request.partition_key, request.tags[WHY]) == ("mono", "30 new decisions of reviewers")
    loop.prepare("mono")
    after = {region: loop.record("finetune_job", region) for region in ("mono", "poly")}
    assert after["poly"] == before["poly"]
    assert after["mono"]["fingerprint"] != before["mono"]["fingerprint"]
    assert after["mono"]["job_id"] != before["mono"]["job_id"]
    assert not loop.asked()
    loop.evaluate("mono")
    assert "eviewers changed these labels: " in loop.project.metadata("benchmark")["note"]
    assert "judged by the same, corrected test labels" in loop.project.output("benchmark", ".html").read_text()


def test_corrected_test_and_calibration_labels_judge_the_same_model_anew(loop: Loop) -> None:
    job, model = loop.record("finetune_job", "mono"), loop.record("finetuned_model", "mono")
    reports = [loop.record("calibrator", "mono")]
    answers = pd.read_parquet(loop.project.output("benchmark", ".parquet"))
    corrected = loop.wrong(4, {"test"}) + loop.wrong(4, {"calibration"})
    agree(corrected, "Yes")
    loop.prepare("mono")
    again = loop.record("finetune_job", "mono")
    assert (again["job_id"], again["reused"]) == (job["job_id"], True)
    loop.evaluate("mono")
    reports.append(loop.record("calibrator", "mono"))
    after = pd.read_parquet(loop.project.output("benchmark", ".parquet"))
    assert loop.record("finetuned_model", "mono")["model"] == model["model"]
    assert reports[0]["calibrator"] != reports[1]["calibrator"]
    assert after["example_id"].tolist() == answers["example_id"].tolist()
    assert set(after.loc[after["truth"] != answers["truth"], "example_id"]) == set(corrected)
    # Answers that were given before have taken as long as before: nobody was asked again.
    assert after["latency_s"].tolist() == answers["latency_s"].tolist()
