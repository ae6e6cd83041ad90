"""What a new user does: one YAML file beside the data, no code. And the tasks that are shipped, up to the upload."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from finetune_assets.dataset.sources import regions_of
from finetune_assets.pipeline.partitions import partitions_name
from finetune_assets.preflight import tasks as preflight
from finetune_assets.task import read_task, task_names
from finetune_assets_tests.pipeline.tasks import Project, failures

INPUTS = Path(__file__).parents[1] / "data" / "inputs"
STAGES = ("sampled_examples", "human_feedback", "filtered_qa", "training_jsonl", "validation_report")


def prepared(name: str, region: str, root: Path, folder: Path = INPUTS) -> Project:
    """A region of a task, made up to its validation report."""
    project = Project(read_task(name, folder), root)
    if project.task.regions == "discover":
        project.instance.add_dynamic_partitions(partitions_name(project.task), [region])
    made = project.run(*STAGES, region=region)
    assert made.success, failures(made)
    return project


def lines(project: Project, region: str) -> list[dict[str, Any]]:
    """All lines of a region's two training files."""
    files = [project.output("training_jsonl", f"/{split}.jsonl", region) for split in ("train", "validation")]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.parametrize("name", task_names(INPUTS))
def test_every_example_folder_passes_its_check_when_it_is_copied_unchanged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(INPUTS / name, tmp_path / "tasks" / name)
    monkeypatch.chdir(tmp_path)
    task = read_task(name)
    assert not task.checks
    found = [finding for finding in preflight.check(name) if not finding.what.startswith(("provider", "model "))]
    # Examples of a layout are few on purpose, which the check says of their test.
    told = [finding for finding in found if "no gain can be proved" not in finding.words]
    assert [finding.words for finding in told if finding.state != "good"] == []
    assert not any(finding.state == "bad" for finding in found)
    assert {finding.what for finding in found} > {f"{name}/{region}" for region in regions_of(task)}


@pytest.mark.parametrize("name", task_names(INPUTS))
def test_every_example_folder_is_a_task_without_a_broken_row(name: str, tmp_path: Path) -> None:
    for region in regions_of(read_task(name, INPUTS)):
        project = prepared(name, region, tmp_path)
        quarantine = pd.read_parquet(project.output("filtered_qa", ".quarantine.parquet", region))
        assert set(quarantine["reason"]) <= {"doubtful_label"}
        report = json.loads(project.output("validation_report", ".json", region).read_text())
        assert [error["code"] for file in report["files"] for error in file["errors"]] == []


def test_a_table_becomes_questions_with_explained_answers(tmp_path: Path) -> None:
    for line in lines(prepared("table", "physics", tmp_path), "physics"):
        system, user, assistant = line["messages"]
        assert system["content"] == "You answer science questions."
        assert user["content"].endswith("?") and " Explanation: " in assistant["content"]


def test_chat_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    written = [json.loads(line) for line in (INPUTS / "chat_prices/prices.jsonl").read_text().splitlines()]
    found = lines(prepared("chat_prices", "tools", tmp_path), "tools")
    assert found
    assert all(line["messages"] in [example["messages"] for example in written] for line in found)


SHIPPED = {
    "solar_cells": ["mono", "poly"],
    "marker_positions": ["left", "right", "above", "below"],
    "science_qa": ["physics", "chemistry", "biology"],
    "product_prices": ["fair", "good", "very-good", "premium", "ideal"],
}


def test_four_tasks_are_shipped_and_name_the_regions_of_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {name: read_task(name).regions for name in task_names()} == SHIPPED
    for name, regions in SHIPPED.items():
        found = regions_of(read_task(name).model_copy(update={"regions": "discover"}))
        assert found == sorted(regions)


@pytest.mark.parametrize(
    ("name", "region"), [("marker_positions", "above"), ("science_qa", "biology"), ("product_prices", "fair")]
)
def test_a_shipped_task_gives_the_counts_it_asks_for_and_nothing_broken(
    name: str, region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = read_task(name)
    project = Project(task, tmp_path / "outputs")
    made = project.run(*STAGES, region=region)
    assert made.success, failures(made)
    sampled = pd.read_parquet(project.output("sampled_examples", ".parquet", region))
    assert sampled["problem"].isna().tolist() == [True] * len(sampled)
    found = Counter(sampled["split"])
    for split, count in task.sampling.amounts.items():
        assert 0.85 * count <= found[split] <= count
