"""A whole rescue, from the dying model to its successor, on small pictures and a small model.

It runs with `FINETUNE_ASSETS_LONG_TESTS=1` and prints its figures; `benchmarks/rescue.py` does so with the demo's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pandas as pd
import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import NewEvent, record
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.rescue import Teacher, compared, label, successor
from finetune_assets.results.region import Outputs
from finetune_assets.task import Task
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task, write_cells
from finetune_assets_tests.server.networks import hub_vision_base
from finetune_assets_tests.server_process import ServerProcess, make_home

pytestmark = [
    long,
    pytest.mark.timeout(3600),
]
N_INPUTS = 300
FIRST = ("sampled_examples", "human_feedback", "filtered_qa")
TRAINED = {"n_epochs": 8, "batch_size": 1, "learning_rate_multiplier": 4}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """Its gpt-4o is a tiny model that sees."""
    home = make_home(tmp_path / "server")
    seeing = hub_vision_base(tmp_path / "vision")
    (home / "models.yaml").write_text(f"gpt-4o-2024-08-06: {seeing.path}\n")
    with ServerProcess(home) as running:
        monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", running.key)
        yield running


def trained(project: Project, client: openai.OpenAI, first: tuple[str, ...] = PREPARE) -> str:
    """Take a project through all its stages; return the model."""
    prepared = project.run(*first)
    assert prepared.success, failures(prepared)
    job_id = json.loads(project.output("finetune_job", ".json").read_text())["job_id"]
    while (job := client.fine_tuning.jobs.retrieve(job_id)).finished_at is None:
        time.sleep(0.5)
    evaluated = project.run(*EVALUATE)
    assert evaluated.success, failures(evaluated)
    return str(job.fine_tuned_model)


def decided(project: Project) -> int:
    """Have a person decide what is doubtful, as the pictures are; return how many these were."""
    examples = pd.read_parquet(project.output("sampled_examples", ".parquet"))
    doubtful = examples.loc[examples["doubt"].notna()]
    with FeedbackDatabase() as db:
        for name, image, answer in doubtful[["example_id", "image", "answer"]].itertuples(index=False):
            truth = "Yes" if int(Path(image).stem.rpartition("-")[2]) >= N_INPUTS / 2 else "No"
            event = NewEvent(
                key=f"person-{name}", task=project.task.task, region="mono", example_id=name, reviewer="person",
                kind="accept" if answer == truth else "correct", answer=truth,
            )  # fmt: skip
            record(db, event)
    return len(doubtful)


def test_a_student_comes_near_its_teacher_and_people_see_less_than_a_fifth(
    server: ServerProcess, tmp_path: Path
) -> None:
    source = write_cells(tmp_path / "labelled", n=200) | {"question": "Is this cell bright?"}
    old = make_task(
        task="old", source=source, base_model="gpt-4o-2024-08-06", provider=server.base_url, budget_usd=5,
        sampling={"train": 0.3, "validation": 0.1, "calibration": 0.2, "test": 0.4}, method=TRAINED,
    )  # fmt: skip
    outputs = Outputs(str(tmp_path / "outputs"), str(tmp_path / "answers.sqlite"))
    model = trained(Project(old, tmp_path / "outputs"), server.client())
    assert model.startswith("ft:gpt-4o-2024-08-06:")

    teacher, inputs, folder = Teacher(old, model, outputs), tmp_path / "inputs", tmp_path / "tasks" / "new"
    write_cells(inputs, n=N_INPUTS)
    made = label(teacher, "mono", inputs, folder, 0.15, print)
    attributes = successor(teacher, "new", folder, server.base_url, inputs)
    student = Task.model_validate(attributes, context={"folder": folder})
    project = Project(student, tmp_path / "outputs")
    assert project.run(*FIRST).success
    people = decided(project)
    trained(project, server.client(), tuple(stage for stage in PREPARE if stage != "sampled_examples"))

    near = compared(teacher, student, "mono", print)
    assert near is not None
    row, n = near.report.decisive, near.report.n
    print(
        f"\n{people} of {N_INPUTS} inputs ({people / N_INPUTS:.1%}) were shown to a person; {len(made.refused)} refused"
    )
    for what, of in (("teacher", row.base), ("student", row.fine_tuned), ("alike", near.agreement)):
        print(f"{what}: {of.estimate:.3f} [{of.low:.3f}, {of.high:.3f}] of {n}")
    print(f"difference {row.difference.estimate:+.3f} [{row.difference.low:+.3f}, {row.difference.high:+.3f}]")
    assert (made.n, people / N_INPUTS < 0.2) == (N_INPUTS, True)
    assert row.difference.low > -0.15 and near.agreement.low > 0.75
