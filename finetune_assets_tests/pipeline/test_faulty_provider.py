"""A line to the provider that fails on three requests of ten changes nothing of what comes out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import openai
import pandas as pd
import pytest

from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets_tests.faulty_line import FAULTS, faulty_line
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task
from finetune_assets_tests.pipeline.test_killed_runs import write_questions
from finetune_assets_tests.server_process import ServerProcess

REGIONS = ["north", "south"]

pytestmark = pytest.mark.xdist_group("finished_region")


def test_every_region_ends_with_one_file_of_each_content_one_job_and_its_model(
    server: ServerProcess, client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    models: dict[str, str] = {}
    uploaded: list[str] = []
    with faulty_line(server.base_url, silence_s=0.1) as line:
        task = make_task(
            task="faulty",
            regions=REGIONS,
            source=write_questions(tmp_path, REGIONS),
            sampling={"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2},
            base_model="tiny-text",
            provider=line.base_url,
        )
        project = Project(task, tmp_path / "outputs")
        for region in REGIONS:
            prepared = project.run(*PREPARE, region=region)
            assert prepared.success, failures(prepared)
            job_id = json.loads(project.output("finetune_job", ".json", region).read_text())["job_id"]
            while (job := client.fine_tuning.jobs.retrieve(job_id)).finished_at is None:
                time.sleep(0.2)
            models[region] = str(job.fine_tuned_model)
            uploaded += [str(job.training_file), str(job.validation_file)]
            evaluated = project.run(*EVALUATE, region=region)
            assert evaluated.success, failures(evaluated)

    jobs = [job for job in client.fine_tuning.jobs.list(limit=100) if (job.metadata or {}).get("task") == "faulty"]
    assert sorted((job.metadata or {})["region"] for job in jobs) == REGIONS
    names = {file.id: file.filename for file in client.files.list()}
    assert [list(names.values()).count(names[file_id]) for file_id in uploaded] == [1] * 4
    for region in REGIONS:
        predictions = pd.read_parquet(project.output("benchmark", ".parquet", region))
        assert set(predictions["model"]) == {"tiny-text", models[region]}
        assert predictions["error"].isna().all()
        calibrator = json.loads(project.output("calibrator", ".json", region).read_text())["calibrator"]
        assert calibrator["model"] == models[region]
    assert sum(line.met[fault] for fault in FAULTS) > 50
