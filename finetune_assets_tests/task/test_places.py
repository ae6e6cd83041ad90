"""Where tasks are found, and what becomes of two that share a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from finetune_assets.errors import TaskError
from finetune_assets.task import read_task, readable_tasks, task_names
from finetune_assets.task.places import SHIPPED, VARIABLE, task_files, task_folders
from finetune_assets_tests.pipeline.tasks import make_task


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_task(folder: Path, name: str, **changes: object) -> Path:
    """Write `<folder>/<name>/defs.yaml`."""
    (folder / name).mkdir(parents=True)
    said = {
        "type": "finetune_assets.pipeline.FineTuningTask",
        "attributes": make_task(task=name).model_dump(mode="json") | changes,
    }
    (folder / name / "defs.yaml").write_text(yaml.safe_dump(said))
    return folder / name / "defs.yaml"


def test_tasks_of_the_working_directory_come_beside_the_shipped_ones(home: Path) -> None:
    path = write_task(home / "tasks", "moles")
    assert set(task_names()) == {"moles", *task_names(SHIPPED)}
    assert task_files()["moles"].path == path and read_task("moles").task == "moles"


def test_the_environment_names_more_folders(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        write_task(home / name, f"task_{name}")
    monkeypatch.setenv(VARIABLE, f"{home / 'one'}{os.pathsep}two")
    assert {"task_one", "task_two"} <= set(task_names())
    monkeypatch.setenv(VARIABLE, "three")
    with pytest.raises(TaskError, match=f"{VARIABLE} names three, which is no folder"):
        task_names()


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ('[tool.dg.project]\nroot_module = "shop"\n', "src/shop/defs"),
        ('[tool.dg.project]\nroot_module = "shop"\n', "shop/defs"),
        ('[tool.dg.project]\nroot_module = "shop"\ndefs_module = "shop.components"\n', "shop/components"),
    ],
)
def test_a_dg_project_s_tasks_are_found_among_its_components(home: Path, settings: str, place: str) -> None:
    (home / "pyproject.toml").write_text(settings)
    write_task(home / place, "moles")
    (home / place / "warehouse").mkdir()
    (home / place / "warehouse/defs.yaml").write_text("type: dagster_dbt.DbtProjectComponent\n")
    assert set(task_names()) == {"moles", *task_names(SHIPPED)}


def test_tasks_are_found_in_folders_within_folders_and_what_lies_below_one_is_its_own(home: Path) -> None:
    path = write_task(home / "tasks/hospital/radiology", "lungs")
    (path.parent / "images/2026").mkdir(parents=True)
    write_task(path.parent / "images", "not_a_task")
    (home / "tasks/hospital/again").symlink_to(home / "tasks/hospital")
    assert set(task_names()) == {"lungs", *task_names(SHIPPED)}
    assert read_task("lungs").task == "lungs" and task_files()["lungs"].twin is None


def test_components_of_other_types_are_left_to_dagster_wherever_they_lie(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "more")
    for folder in ("tasks", "more/nested"):
        write_task(home / folder, f"moles_{folder[0]}")
        (home / folder / "warehouse").mkdir()
        (home / folder / "warehouse/defs.yaml").write_text("type: dagster_dbt.DbtProjectComponent\n")
    (home / "tasks/team").mkdir()
    (home / "tasks/team/defs.yaml").write_text("type: dagster.DefsFolderComponent\n")
    write_task(home / "tasks/team", "moles_s")
    assert set(task_names()) == {"moles_t", "moles_m", "moles_s", *task_names(SHIPPED)}


@pytest.mark.parametrize("kind", ["finetune_assets.pipline.FineTuningTask", "finetune_assets.pipeline.FinetunigTask"])
def test_a_misspelt_type_is_refused_and_not_taken_for_another_s(home: Path, kind: str) -> None:
    path = write_task(home / "tasks", "moles")
    path.write_text(path.read_text().replace("finetune_assets.pipeline.FineTuningTask", kind))
    with pytest.raises(TaskError, match=r"type: is .*; a task is of `type: finetune_assets\.pipeline\.FineTuningTask`"):
        read_task("moles")


def test_a_folder_that_is_named_twice_is_read_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(home / "tasks", "moles")
    (home / "link").symlink_to(home / "tasks")
    monkeypatch.setenv(VARIABLE, os.pathsep.join(["tasks", "./tasks", "link", "tasks/moles", str(SHIPPED)]))
    assert len(task_folders()) == 2 and read_task("moles").task == "moles"


def test_a_task_of_the_user_s_hides_the_shipped_one_and_says_so(home: Path) -> None:
    path = write_task(home / "tasks", "solar_cells", base_model="mine")
    assert read_task("solar_cells").base_model == "mine"
    assert task_files()["solar_cells"].note == f"{path} is used, and not the shipped task of this name"


def test_two_of_the_user_s_tasks_of_one_name_are_refused_and_leave_the_others_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = [write_task(home / folder, "moles") for folder in ("tasks", "more")]
    write_task(home / "tasks", "cells")
    monkeypatch.setenv(VARIABLE, "more")
    with pytest.raises(TaskError, match="two tasks are called moles") as caught:
        read_task("moles")
    assert all(str(path) in str(caught.value) for path in twins)
    assert {"cells", "solar_cells"} <= {task.task for task in readable_tasks()}


def test_a_copied_folder_whose_task_was_not_renamed_is_refused(home: Path) -> None:
    path = write_task(home / "tasks", "moles", task="solar_cells")
    with pytest.raises(TaskError, match=f"{path}:[0-9]+: task: must be the folder's name, moles, got 'solar_cells'"):
        read_task("moles")


def test_one_broken_task_is_shown_broken_and_takes_none_of_the_others_off(home: Path) -> None:
    write_task(home / "tasks", "moles")
    write_task(home / "tasks", "torn").write_text("type: [\n")
    code = """
import json
from finetune_assets.definitions import defs
found = defs.load_fn() if hasattr(defs, "load_fn") else defs()
graph = found.resolve_asset_graph()
print(json.dumps({key.to_user_string(): graph.get(key).description for key in graph.get_all_asset_keys()}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "moles/champion" in found and "solar_cells/champion" in found
    assert str(home / "tasks/torn/defs.yaml") in found["torn/broken"]
