"""Random walks: whatever happens to regions, runs, jobs and cursors, and in whatever order, all is well in the end.

The sensor, the nightly comparison, the source, Dagster's storage and the provider's protocol are the real ones. Runs
are told, not made: each leaves the events that a real one leaves, up to where the walk kills it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from finetune_assets.dataset.sources import digests, version
from finetune_assets.pipeline.at_work import at_work
from finetune_assets.pipeline.code_versions import code_version
from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.reruns.changes import SOURCE_FILES, SOURCE_ROWS, changed_data
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.pipeline.stages.assets import ATTEMPT
from finetune_assets.pipeline.stale import first_stale, from_on
from finetune_assets.task import Task
from finetune_assets_tests.long_tests import LONG
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import scripted_provider

REGIONS = [f"r{number}" for number in range(5)]
PARTITIONS = "cells_regions"
FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
pytestmark = pytest.mark.timeout(0 if LONG else 600)
Death = st.sampled_from(["", "", "", "at once", "half-way", "at the end"])
HOUR = 3600


class Walk(RuleBasedStateMachine):
    """A task of a few regions, its provider, and a daemon that does what the sensor and the schedule ask for."""

    @initialize(max_open_jobs=st.sampled_from([None, 1, 2]))
    def begin(self, max_open_jobs: int | None) -> None:
        self.now, self.patched = time.time(), pytest.MonkeyPatch()
        self.patched.setattr(time, "time", lambda: self.now)
        self.patched.setenv("FINETUNE_ASSETS_API_KEY", "a key")
        self.folder = tempfile.TemporaryDirectory()
        self.table = Path(self.folder.name) / "rows.jsonl"
        self.serving = scripted_provider()
        self.provider = self.serving.__enter__()
        self.instance = dg.DagsterInstance.ephemeral()
        self.yaml = {
            "provider": self.provider.base_url,
            "regions": "discover",
            "source": {"kind": "table", "path": str(self.table)},
            "max_open_jobs": max_open_jobs,
        }
        self.words = self.judging = 0
        self.sampled: dict[str, int] = {}
        self.written: dict[str, int] = {}
        self.models: dict[str, str] = {}
        self.data: dict[str, int] = {}
        self.cursor: str | None = None
        self.queue: list[dg.DagsterRun] = []
        self.evaluated: dict[str, tuple[str, int]] = {}
        for region in REGIONS[:3]:
            self.change(region)
        self.night()
        while self.queue:
            self.work()
        self.tick()

    def teardown(self) -> None:
        if hasattr(self, "instance"):
            try:
                self.settle()
            finally:
                self.instance.dispose()
                self.serving.__exit__(None, None, None)
                self.patched.undo()
                self.folder.cleanup()

    @rule(region=st.sampled_from(REGIONS))
    def change(self, region: str) -> None:
        """Give a region other rows; one that has none, or no partition, gets both."""
        self.data[region] = self.data.get(region, 0) + 1
        self.write()
        self.instance.add_dynamic_partitions(PARTITIONS, [region])

    @rule(region=st.sampled_from(REGIONS), keeps_rows=st.booleans())
    def remove(self, region: str, keeps_rows: bool) -> None:
        """Delete a region's partition, and perhaps its rows; or rename it, when another one gets rows next."""
        self.instance.delete_dynamic_partition(PARTITIONS, region)
        if not keeps_rows:
            self.data.pop(region, None)
            self.write()

    @rule(region=st.sampled_from(REGIONS))
    def lose_rows(self, region: str) -> None:
        self.data.pop(region, None)
        self.write()

    @property
    def task(self) -> Task:
        """What the YAML says now."""
        prompt = {"user": f"{self.words}: {{question}} Answer Yes or No."}
        return make_task(**self.yaml, prompt=prompt, benchmark={"max_failed": self.judging / 100})

    @rule(what=st.sampled_from(["words", "judging", "nothing"]))
    def change_yaml(self, what: str) -> None:
        """Change how models are asked, how they are judged, or what no stage reads."""
        self.words += what == "words"
        self.judging += what == "judging"
        self.yaml |= {"description": f"{len(self.provider.jobs)}"} if what == "nothing" else {}

    @rule()
    def lose_cursor(self) -> None:
        self.cursor = None

    @rule(succeeds=st.booleans(), first=st.booleans())
    def end_a_job(self, succeeds: bool, first: bool) -> None:
        standing = [job for job, facts in self.provider.jobs.items() if facts["status"] == "queued"]
        if standing:
            job = self.provider.jobs[standing[0 if first else -1]]
            job["status"] = "succeeded" if succeeds else "failed"

    @rule(hours=st.sampled_from([0.02, 1, 9]))
    def tick(self, hours: float = 0.02) -> None:
        """Let time pass and the sensor look."""
        self.now += hours * HOUR
        result = job_sensor(self.task)(dg.build_sensor_context(self.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for event in result.asset_events:
            if isinstance(event, dg.AssetObservation):
                self.instance.report_runless_asset_event(event)
        for request in result.run_requests or []:
            self.launch(request)

    @rule()
    def night(self) -> None:
        """Do what the two schedules do."""
        task, regions = self.task, known_regions(self.task, self.instance)
        found = changed_data(self.instance, task, regions)
        since = first_stale(self.instance, task, PREPARE, [name for name in regions if name not in found.why])
        since = {region: stage for region, stage in since.items() if region not in found.doubts}
        for region in (found.why | since).keys() - at_work(self.instance, task, found.why | since):
            only = from_on(task, PREPARE, since[region]) if region in since else None
            self.launch(dg.RunRequest(job_name="cells_prepare", partition_key=region, asset_selection=only))
        anew = first_stale(self.instance, task, PREPARE, regions)
        stale = first_stale(self.instance, task, EVALUATE, [name for name in regions if name not in anew])
        for region in stale.keys() - at_work(self.instance, task, stale):
            only = from_on(task, EVALUATE, stale[region])
            self.launch(dg.RunRequest(job_name="cells_evaluate", partition_key=region, asset_selection=only))

    @rule(death=Death, status=st.sampled_from(FAILED))
    def work(self, death: str = "", status: dg.DagsterRunStatus = FAILED[0]) -> None:
        """Have the oldest run done, or killed somewhere on its way."""
        if not self.queue:
            return
        run = self.queue.pop(0)
        region = run.tags["dagster/partition"]
        do = self.prepare if run.job_name == "cells_prepare" else self.evaluate
        done = region in known_regions(self.task, self.instance) and death != "at once" and do(run, region, death)
        if done:
            self.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name), run.run_id)
        elif status is dg.DagsterRunStatus.CANCELED:
            self.instance.report_run_canceled(run)
        else:
            self.instance.report_run_failed(run)

    def write(self) -> None:
        rows = [
            {"question": f"version {number} of {region}", "answer": "Yes", "region": region}
            for region, number in {**self.data, "nobody": 0}.items()
        ]
        self.table.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def launch(self, request: dg.RunRequest) -> None:
        """Queue a run, unless there was one by its key; as the daemon does, refuse a region that is not there."""
        assert request.partition_key in known_regions(self.task, self.instance)
        keys = {"dagster/run_key": request.run_key} if request.run_key else {}
        if keys and self.instance.get_runs(dg.RunsFilter(tags=keys)):
            return
        for queued in self.queue:
            assert queued.tags["dagster/partition"] != request.partition_key, "two runs of a region at once"
        tags = {**request.tags, **keys, "dagster/partition": str(request.partition_key)}
        only = frozenset(request.asset_selection) if request.asset_selection else None
        run = dg.DagsterRun(str(request.job_name), tags=tags, status=dg.DagsterRunStatus.STARTED, asset_selection=only)
        self.queue.append(self.instance.add_run(run))

    def made(self, run: dg.DagsterRun, stage: str, region: str, **metadata: str) -> None:
        tags = {"dagster/code_version": code_version(self.task, stage)}
        event = dg.AssetMaterialization(["cells", stage], partition=region, metadata=metadata, tags=tags)
        stored = dg.DagsterEvent(
            "ASSET_MATERIALIZATION",
            run.job_name,
            event_specific_data=StepMaterializationData(event),
        )
        self.instance.report_dagster_event(stored, run.run_id)

    def prepare(self, run: dg.DagsterRun, region: str, death: str) -> bool:
        """Sample, and submit once, as far as the run gets."""
        task, stages = self.task, _selected(run, PREPARE)
        if "sampled_examples" in stages:
            found = digests(task.source, [region], task.answer, float("inf")) or {}
            if region not in found:
                return False
            said = {SOURCE_FILES: version(task.source), SOURCE_ROWS: found[region]}
            self.made(run, "sampled_examples", region, **said)
            self.sampled[region] = self.data[region]
        if "training_jsonl" in stages:
            self.made(run, "training_jsonl", region)
            self.written[region] = self.words
        if self.written[region] != self.words:
            # What was uploaded asks other words than the YAML.
            return False
        if death == "half-way":
            return False
        asked = f"{region} {self.sampled[region]} {self.words}"
        same = [
            job for job, facts in self.provider.jobs.items() if facts["asked"] == asked and facts["status"] != "failed"
        ]
        n_open = sum(facts["status"] == "queued" for facts in self.provider.jobs.values())
        if not same and task.max_open_jobs is not None and n_open >= task.max_open_jobs:
            self.made(run, "finetune_job", region, status="waiting", **{ATTEMPT: ""})
            return True
        if not same:
            same = [f"ftjob-{len(self.provider.jobs)}"]
            self.provider.add_job(same[0], "queued", asked=asked)
        if death == "at the end":
            return False
        self.made(run, "finetune_job", region, job_id=same[0])
        return True

    def evaluate(self, run: dg.DagsterRun, region: str, death: str) -> bool:
        stages = _selected(run, EVALUATE)
        if "finetuned_model" in stages:
            self.models[region] = run.tags["finetune_assets/job_id"]
            self.made(run, "finetuned_model", region)
        job = self.provider.jobs[self.models[region]]
        assert job["status"] == "succeeded"
        if death:
            return False
        self.made(run, "champion", region)
        self.evaluated[region] = (job["asked"], self.judging)
        return True

    def settle(self) -> None:
        """From now on all goes well, and every region with data has its model evaluated, paid for once."""
        for _ in range(30):
            self.tick(hours=9)
            self.night()
            while self.queue:
                self.work()
            for job in self.provider.jobs.values():
                job["status"] = "succeeded" if job["status"] == "queued" else job["status"]
            if self.is_settled():
                break
        assert {region: self.evaluated.get(region) for region in self.wanted()} == self.wanted()
        paid = [job["asked"] for job in self.provider.jobs.values() if job["status"] == "succeeded"]
        assert len(paid) == len(set(paid))

    def wanted(self) -> dict[str, tuple[str, int]]:
        """What is evaluated in the end, and how: a region whose job has failed waits for a person."""
        there = set(known_regions(self.task, self.instance))
        asked = {region: f"{region} {number} {self.words}" for region, number in self.data.items() if region in there}
        states = [(job["asked"], job["status"]) for job in self.provider.jobs.values()]
        failed = {name for name, status in states if status == "failed"}
        failed -= {name for name, status in states if status != "failed"}
        return {region: (name, self.judging) for region, name in asked.items() if name not in failed}

    def is_settled(self) -> bool:
        wanted = self.wanted()
        evaluated = all(self.evaluated.get(region) == name for region, name in wanted.items())
        return evaluated and not at_work(self.instance, self.task, list(wanted))


def _selected(run: dg.DagsterRun, stages: Sequence[str]) -> Sequence[str]:
    return stages if run.asset_selection is None else [key.path[-1] for key in run.asset_selection]


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=200 if LONG else 5,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
