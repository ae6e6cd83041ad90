"""A choice, a score, a number, a text and a call, each from a table of rows through all stages of a real server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest

from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.provider import fine_tuning
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.pipeline.tasks import STAGES, Project, evaluations, failures, make_task
from finetune_assets_tests.server_process import ServerProcess, make_home
from finetune_assets_tests.tiny_models import TOOLS_TEMPLATE, write_text_model

# In the process that runs the other pipeline tests, beside the server that it has started.
pytestmark = pytest.mark.xdist_group("finished_region")

N = 60
WORDS = ["Yes", "No", "system"]
KINDS: dict[str, dict[str, Any]] = {
    "choice": {"answer": {"kind": "choice", "options": WORDS}, "metric": "accuracy", "picture": "confusion_matrix"},
    "score": {
        "answer": {"kind": "score", "levels": WORDS},
        "metric": "quadratic_agreement",
        "picture": "confusion_matrix",
    },
    "number": {
        "answer": {"kind": "number", "template": "{}", "decimals": 0, "minimum": 0},
        "metric": "within_tolerance",
        "picture": "truth_against_guess",
    },
    "text": {"answer": {"kind": "text", "max_tokens": 6}, "metric": "contains_answer", "picture": "metric_intervals"},
    "call": {
        "answer": {
            "kind": "call",
            "max_tokens": 120,
            "tools": [
                {
                    "name": "judge",
                    "description": "Say so.",
                    "parameters": {
                        "type": "object",
                        "properties": {"said": {"type": "string", "enum": WORDS}},
                        "required": ["said"],
                    },
                }
            ],
        },
        "metric": "exact_call",
        "picture": "metric_intervals",
        "base_model": "calling-text",
    },
}


def write_rows(folder: Path, kind: str) -> dict[str, Any]:
    """Write questions that name a word, with the word, its place or a sentence about it as the answer."""
    rows = []
    for number in range(N):
        word = WORDS[number % 3]
        answer = {
            "choice": word, "score": word, "number": 10 + number % 3, "text": f"{word} Explanation: it was said",
            "call": {"name": "judge", "arguments": {"said": word}},
        }[kind]  # fmt: skip
        rows.append({"question": f"{word} {number}?", "answer": answer})
    table = folder / "rows.jsonl"
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {"kind": "table", "path": str(table), "region": "mono"}


@pytest.fixture(scope="module")
def projects(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """A project of each kind, whose job was submitted."""
    made = {}
    calling = write_text_model(tmp_path_factory.mktemp("calling") / "model", template=TOOLS_TEMPLATE)
    with (server.home / "models.yaml").open("a") as names:
        names.write(f"calling-text: {calling}\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FINETUNE_ASSETS_API_KEY", server.key)
        for kind in KINDS:
            folder = tmp_path_factory.mktemp(kind)
            task = make_task(
                source=write_rows(folder, kind),
                answer=KINDS[kind]["answer"],
                prompt={"user": "{question}"},
                sampling={"train": 20, "validation": 4, "calibration": 16, "test": 20},
                filtering={"label_errors": "off", "outliers": False},
                base_model=KINDS[kind].get("base_model", "tiny-text"),
                # It learns in seconds, and has learned little.
                benchmark={"max_unreadable": 1.0},
                method={"n_epochs": 5, "batch_size": 2, "learning_rate_multiplier": 10},
                provider=server.base_url,
            )
            made[kind] = Project(task, folder / "outputs")
            prepared = made[kind].run(*PREPARE)
            assert prepared.success, failures(prepared)
    return made


@pytest.mark.usefixtures("local_key")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_answer_goes_through_all_stages(
    kind: str, projects: dict[str, Project], client: openai.OpenAI
) -> None:
    project = projects[kind]
    job_id = project.metadata("finetune_job")["job_id"]
    while fine_tuning.retrieve(client, job_id).finished_at is None:
        time.sleep(0.2)
    evaluated = project.run(*EVALUATE)
    assert evaluated.success, failures(evaluated)
    assert all(project.made(stage) for stage in STAGES)
    assert {"better_than_base", "enough_scores", "calibration_helps"} <= set(evaluations(evaluated))

    report = json.loads(project.output("benchmark", ".json").read_text())
    predictions = pd.read_parquet(project.output("benchmark", ".parquet"))
    assert (report["kind"], report["primary"]) == (kind, KINDS[kind]["metric"])
    assert report["n"] == (predictions["role"] == "base").sum()
    assert len(report["baselines"]) == (3 if kind == "number" else 1)
    assert "data:image/png" in project.metadata("benchmark")[KINDS[kind]["picture"]]
    made = json.loads(project.output("calibrator", ".json").read_text())
    assert made["calibrator"]["kind"] == kind
    assert made["calibrator"]["model"] == report["fine_tuned"]["model"]
    assert "data:image/png" in project.metadata("calibrator")["intervals" if kind == "number" else "reliability"]


@long
def test_a_task_of_reinforcement_goes_through_all_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A server of its own: its jobs' graders stand under names, which strict clients of other tests could not list.
    (tmp_path / "home").mkdir()
    with ServerProcess(make_home(tmp_path / "home")) as server:
        monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
        task = make_task(
            source=write_rows(tmp_path, "choice"),
            answer=KINDS["choice"]["answer"],
            prompt={"user": "{question}"},
            sampling={"train": 20, "validation": 4, "calibration": 16, "test": 20},
            filtering={"label_errors": "off", "outliers": False},
            base_model="tiny-text",
            benchmark={"max_unreadable": 1.0},
            method={"type": "reinforcement", "n_epochs": 1, "batch_size": 5, "max_completion_tokens": 3},
            provider=server.base_url,
        )
        project = Project(task, tmp_path / "outputs")
        prepared = project.run(*PREPARE)
        assert prepared.success, failures(prepared)
        first = json.loads(project.output("training_jsonl", "/train.jsonl").read_text().splitlines()[0])
        assert (first["messages"][-1]["role"], first["answer"] in WORDS) == ("user", True)
        client = openai.OpenAI(base_url=server.base_url, api_key=server.key)
        job_id = project.metadata("finetune_job")["job_id"]
        while (job := fine_tuning.retrieve(client, job_id)).finished_at is None:
            time.sleep(0.2)
        assert job.status == "succeeded", job.error
        evaluated = project.run(*EVALUATE)
        assert evaluated.success, failures(evaluated)
        assert all(project.made(stage) for stage in STAGES)
