"""Models are judged as they were trained, and on nothing that they have seen, whatever the YAML says by now."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.dataset.table import write_table
from finetune_assets.errors import RecordError
from finetune_assets.evaluation.promotion import Champion, Standing
from finetune_assets.pipeline.stages.contenders import contenders, require_own_words
from finetune_assets.results.files import write_json
from finetune_assets.results.records import Judged, Trained
from finetune_assets.results.region import Outputs, Region
from finetune_assets.results.trained_on import note_trained
from finetune_assets.task import Task
from finetune_assets_tests.evaluation.predictions import predictions
from finetune_assets_tests.pipeline.tasks import Project, evaluations, failures, make_task, words
from finetune_assets_tests.results.made import trained_as

SILENT = "http://127.0.0.1:9/v1"
"""Nobody listens there."""
CHAMPION = Champion(
    model="ft:old",
    provider=SILENT,
    base_model="gpt-4o-2024-08-06",
    job_id="ftjob-old",
    calibrator={},
    task_fingerprint="f",
    metric="accuracy",
    value=0.9,
    n_test=9,
    since="2026-01-01T00:00:00+00:00",
    way="checks",
    address=f"{SILENT}/",
    prompt={"user": "Before: {question}"},
    answer={"kind": "binary", "positive": "Ja", "negative": "Nein"},
    trained_on="f-old",
)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A region whose model is trained, its test and calibration splits beside it."""
    project = Project(make_task(provider=SILENT), tmp_path)
    rows = [
        (f"{split}-{n}", split, ["Yes", "No"][n % 2]) for split in ("train", "calibration", "test") for n in range(9)
    ]
    frame = pd.DataFrame(rows, columns=["example_id", "split", "answer"]).assign(question="q", image_sha256=None)
    frame = frame.assign(group=frame["example_id"], system=None, image=None).astype("str")
    clean = write_table(UPath(project.output("filtered_qa", ".parquet")), frame)
    note_trained(region(project), clean, "f-new")
    note_trained(region(project), replace(clean), "f-old")
    leave(project, trained(project.task))
    return project


def region(project: Project) -> Region:
    return Region(project.task, "mono", Outputs(str(project.root)))


def trained(task: Task) -> Trained:
    provider = {"name": SILENT, "address": f"{SILENT}/"}
    return trained_as(task, "ft:new", provider=provider, inputs={"train": "f-new"})


def leave(project: Project, made: Trained) -> None:
    write_json(UPath(project.output("finetuned_model", ".json")), made.model_dump(mode="json"))


def crown(project: Project, **changes: Any) -> None:
    standing = Standing(history=(replace(CHAMPION, **changes),))
    write_json(UPath(project.output("champion", ".json")), standing.to_dict())


def draw_otherwise(project: Project) -> None:
    """Make a test example of one that has trained, as another seed does."""
    path = project.output("filtered_qa", ".parquet")
    frame = pd.read_parquet(path)
    frame.loc[frame["example_id"] == "train-0", "split"] = "test"
    frame.to_parquet(path)


def test_the_champion_is_asked_with_the_prompt_and_in_the_words_of_its_own_training(project: Project) -> None:
    crown(project)
    asked = contenders(region(project), trained(project.task))["champion"]
    assert asked.task.prompt.user == "Before: {question}"
    assert asked.words == {"Ja": "Yes", "Nein": "No"}


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "https://elsewhere.example/v1/"},
        {"answer": {"kind": "choice", "options": ["Ja", "Nein"]}},
        {"address": None, "provider": "openai"},
    ],
)
def test_a_champion_that_cannot_be_compared_is_not(project: Project, changes: dict[str, Any]) -> None:
    crown(project, **changes)
    assert set(contenders(region(project), trained(project.task))) == {"base", "fine_tuned"}


def test_a_test_example_that_has_trained_the_model_stops_the_benchmark_before_anyone_is_asked(project: Project) -> None:
    draw_otherwise(project)
    result = project.run("benchmark")
    assert not result.success and not evaluations(result)["never_seen"].passed
    assert "1 examples of the test have trained ft:new" in words(result, "never_seen")
    assert "Go back to the seed" in words(result, "never_seen")


def test_a_test_example_that_has_trained_the_champion_stops_the_benchmark_too(project: Project) -> None:
    crown(project)
    leave(project, trained(project.task).model_copy(update={"inputs": {"train": "f-other"}}))
    path = UPath(project.output("filtered_qa", ".parquet"))
    frame = pd.read_parquet(str(path)).query("split != 'train'")
    note_trained(region(project), write_table(path.with_name("other.parquet"), frame), "f-other")
    draw_otherwise(project)
    result = project.run("benchmark")
    assert not result.success
    assert "1 examples of the test have trained ft:old" in words(result, "never_seen")


def test_ids_of_a_job_at_another_provider_are_refused_before_it_is_asked(project: Project) -> None:
    elsewhere = Project(make_task(provider="http://127.0.0.1:8/v1"), project.root)
    result = elsewhere.run("benchmark")
    assert f"finetuned_model belongs to the provider {SILENT}" in failures(result)


def test_a_prompt_that_changes_during_training_does_not_sign_the_calibrator(project: Project) -> None:
    table = predictions()
    again = table[table["role"] == "fine_tuned"].assign(split="calibration")
    write_table(UPath(project.output("benchmark", ".parquet")), pd.concat([table, again], ignore_index=True))
    made = trained(project.task).model_copy(update={"model": "ft:a"})
    leave(project, made)
    judged = Judged(task=made.task, provider=made.provider, inputs={}, model="ft:a", job_id=made.job_id)
    write_json(UPath(project.output("benchmark", ".json")), {"judged": judged.model_dump(mode="json")})
    changed = Project(make_task(provider=SILENT, prompt={"user": "Now: {question}"}), project.root)
    result = changed.run("calibrator")
    assert result.success, failures(result)
    kept = json.loads(project.output("calibrator", ".json").read_text())
    assert kept["task_fingerprint"] == kept["task"]["fingerprint"] == made.task.fingerprint
    assert kept["task"]["prompt"] == project.task.prompt.model_dump(mode="json")


def test_levels_that_are_called_otherwise_by_now_are_not_compared(project: Project) -> None:
    levels = {"kind": "score", "levels": ["none", "mild", "severe"]}
    crown(project, answer=levels)
    graded = Project(
        make_task(provider=SILENT, answer=levels, source={"kind": "table", "path": "rows.csv"}), project.root
    )
    assert "champion" in contenders(region(graded), trained(graded.task))
    crown(project, answer=levels | {"levels": ["none", "some", "severe"]})
    assert "champion" not in contenders(region(graded), trained(graded.task))


def test_examples_in_other_words_than_the_model_s_are_refused(project: Project) -> None:
    frame = pd.DataFrame({"answer": ["Ja", "No"]})
    with pytest.raises(RecordError, match="trained to answer Yes or No, and examples are labelled 'Ja' by now"):
        require_own_words(region(project), frame)
