"""A line to the provider that fails on three requests of ten changes nothing of what comes out.

It runs with `FINETUNE_ASSETS_LONG_TESTS=1`; that such a line leaves one file and one job has a test in `test_once`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import openai
import openai.types.fine_tuning
import pandas as pd
import pytest

from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets_tests.faulty_line import FAULTS, faulty_line
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.pipeline.stages.test_killed_runs import write_questions
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task
from finetune_assets_tests.server_process import ServerProcess

PROVIDERS = {"north": "openai", "south": "azure"}
"""By region: the ways to the same server, whose line is known to neither."""

pytestmark = [long, pytest.mark.xdist_group("finished_region")]


def test_every_region_ends_with_one_file_of_each_content_one_job_and_its_model(
    server: ServerProcess, client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_questions(tmp_path, list(PROVIDERS))
    jobs: list[openai.types.fine_tuning.FineTuningJob] = []
    projects: dict[str, Project] = {}
    with faulty_line(server.base_url, silence_s=0.1) as line:
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        monkeypatch.setenv("OPENAI_BASE_URL", line.base_url)
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", server.key)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", line.base_url.removesuffix("/v1"))
        for region, provider in PROVIDERS.items():
            task = make_task(
                task="faulty",
                regions=list(PROVIDERS),
                source=source,
                sampling={"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2},
                base_model="tiny-text",
                benchmark={"elsewhere": 4},
                provider=provider,
            )
            projects[region] = Project(task, tmp_path / "outputs")
            prepared = projects[region].run(*PREPARE, region=region)
            assert prepared.success, failures(prepared)
        for region, project in projects.items():
            job_id = json.loads(project.output("finetune_job", ".json", region).read_text())["job_id"]
            while (job := client.fine_tuning.jobs.retrieve(job_id)).finished_at is None:
                time.sleep(0.2)
            jobs.append(job)
            evaluated = project.run(*EVALUATE, region=region)
            assert evaluated.success, failures(evaluated)
            predictions = pd.read_parquet(project.output("benchmark", ".parquet", region))
            assert set(predictions["model"]) == {"tiny-text", job.fine_tuned_model}
            assert predictions["error"].dropna().tolist() == []
            calibrator = json.loads(project.output("calibrator", ".json", region).read_text())["calibrator"]
            assert calibrator["model"] == job.fine_tuned_model

    made = [job for job in client.fine_tuning.jobs.list(limit=100) if (job.metadata or {}).get("task") == "faulty"]
    assert sorted(job.id for job in made) == sorted(job.id for job in jobs)
    names = {file.id: file.filename for file in client.files.list()}
    uploaded = [str(file_id) for job in jobs for file_id in (job.training_file, job.validation_file)]
    assert [list(names.values()).count(names[file_id]) for file_id in uploaded] == [1] * 4
    assert sum(line.met[fault] for fault in FAULTS) > 50
