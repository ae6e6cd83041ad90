"""A run that is killed at any moment of the paid stages leaves what the next one finishes, without paying twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_assets.pipeline.stage import PREPARE
from finetune_assets.provider import fine_tuning
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.stages.killed_runs import MOMENTS
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server.conftest import let_go
from finetune_assets_tests.server_process import ServerProcess

KILLS = int(os.environ.get("RUN_KILLS", "1"))
"""How many runs are killed; more take longer."""
FREE, PAID = PREPARE[:5], PREPARE[5:]

pytestmark = pytest.mark.xdist_group("finished_region")


def write_questions(folder: Path, regions: list[str]) -> dict[str, Any]:
    """A hundred and twenty questions a region, in a table."""
    rows = [
        {"question": f"{region}: is {number} even?", "answer": "No" if number % 2 else "Yes", "region": region}
        for region in regions
        for number in range(120)
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"kind": "table", "path": str(path)}


Run = tuple[str, Sequence[str], str, int]
Do = Callable[[Task, Path, Sequence[Run]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def do(server: ServerProcess) -> Iterator[Do]:
    """Runs of a region, stages and the moment to die at, and what became of each."""
    command = [sys.executable, "-m", "finetune_assets_tests.pipeline.stages.killed_runs"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"FINETUNE_ASSETS_API_KEY": server.key}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        asked, said = process.stdin, process.stdout
        assert asked and said

        def ask(task: Task, root: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
            request = {"task": task.model_dump(mode="json"), "root": str(root), "runs": runs}
            print(json.dumps(request), file=asked, flush=True)
            return [json.loads(said.readline()) for _ in runs]

        yield ask


def even_or_odd(name: str, folder: Path, regions: list[str], server: ServerProcess) -> Task:
    return make_task(
        task=name,
        regions=regions,
        source=write_questions(folder, regions),
        sampling={"train": 0.5, "validation": 0.2, "calibration": 0.15, "test": 0.15},
        base_model="tiny-text",
        provider=server.base_url,
    )


def draw(counted: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Choose among the moments that whole runs met, one run for each of the kinds."""
    moments = [(kind, n) for kind, found in zip(MOMENTS, counted, strict=True) for n in range(1, found["met"] + 1)]
    return random.Random(0).sample(moments, min(KILLS, len(moments)))


def test_every_run_is_finished_by_the_next_one(
    do: Do, server: ServerProcess, client: openai.OpenAI, tmp_path: Path
) -> None:
    regions = [f"r{number}" for number in range(len(MOMENTS) + KILLS)]
    task = even_or_odd("killed", tmp_path, regions, server)
    whole = [(region, PAID, kind, 0) for region, kind in zip(regions, MOMENTS, strict=False)]
    prepared = do(task, tmp_path, [(region, FREE, "event", 0) for region in regions] + whole)
    assert {run["failures"] for run in prepared} == {""}
    fates = draw(prepared[len(regions) :])
    runs = [
        (region, PAID, *fate)
        for region, moment in zip(regions[len(MOMENTS) :], fates, strict=True)
        for fate in (moment, ("event", 0))
    ]
    ended = do(task, tmp_path, runs)

    jobs = [job for job in client.fine_tuning.jobs.list(limit=100) if (job.metadata or {}).get("task") == "killed"]
    let_go(client, *(job.id for job in jobs))
    assert [run["killed"] for run in ended[::2]] == [True] * KILLS
    assert {run["failures"] for run in ended[1::2]} == {""}
    assert sorted(job.metadata["region"] for job in jobs if job.metadata) == sorted(regions)
    names = {file.id: file.filename for file in client.files.list()}
    used = {names[file_id] for job in jobs for file_id in (job.training_file, job.validation_file) if file_id}
    assert len(used) == 2 * len(regions)
    assert all(list(names.values()).count(name) == 1 for name in used)


def test_a_model_whose_run_was_killed_is_taken_by_the_next_one(
    do: Do, server: ServerProcess, client: openai.OpenAI, tmp_path: Path
) -> None:
    task = even_or_odd("taken", tmp_path, ["whole"], server)
    assert [run["failures"] for run in do(task, tmp_path, [("whole", PREPARE, "event", 0)])] == [""]
    [job_id] = [
        job.id for job in client.fine_tuning.jobs.list(limit=100) if (job.metadata or {}).get("task") == "taken"
    ]
    while fine_tuning.retrieve(client, job_id).finished_at is None:
        time.sleep(0.2)
    model = ("whole", ["finetuned_model"])
    counted = do(task, tmp_path, [(*model, kind, 0) for kind in MOMENTS])
    made = tmp_path / task.task / "finetuned_model"
    expected = {path.name: path.read_bytes() for path in made.iterdir()}
    ended = do(task, tmp_path, [(*model, *fate) for moment in draw(counted) for fate in (moment, ("event", 0))])
    assert [run["killed"] for run in ended[::2]] == [True] * (len(ended) // 2)
    assert {run["failures"] for run in ended[1::2]} == {""}
    assert {path.name: path.read_bytes() for path in made.iterdir()} == expected
