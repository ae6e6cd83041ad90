"""The code location as Dagster's own commands load it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from finetune_assets.definitions import defs
from finetune_assets.errors import TaskFileError

ROOT = Path(__file__).parents[1]


def run(*command: str, home: Path) -> str:
    """Run a command of the environment in the project's folder; its output, or a failed test."""
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "VIRTUAL_ENV": str(bin_folder.parent),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [bin_folder / command[0], *command[1:]],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def dagster_home(tmp_path: Path) -> Path:
    """An instance folder with the settings that the package ships."""
    (tmp_path / "dagster.yaml").write_text((ROOT / "finetune_assets/pipeline/dagster.yaml").read_text())
    return tmp_path


def test_dg_finds_nothing_wrong(dagster_home: Path) -> None:
    said = run("dg", "check", "defs", home=dagster_home)
    assert "All definitions loaded successfully" in said
    assert "warning" not in said.lower()


def test_dagster_loads_the_workspace_without_a_word_of_warning_from_us(dagster_home: Path) -> None:
    said = run("dagster", "definitions", "validate", home=dagster_home)
    assert "Validation successful for code location finetune_assets" in said
    ours = [line for line in said.splitlines() if "Warning" in line and "SupersessionWarning" not in line]
    assert ours == []


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's with a sound task, one with a key misspelt and one whose file is no YAML."""
    folder = tmp_path / "own"
    shipped = (ROOT / "finetune_assets/defs/solar_cells/defs.yaml").read_text()
    for name, text in {
        "sound": shipped,
        "misspelt": shipped.replace("base_model:", "base_modell:"),
        "checked": shipped + "  checks: {no_leaks: warn}\n",
        "torn": "type: [",
    }.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "defs.yaml").write_text(text.replace("task: solar_cells", f"task: {name}"))
    monkeypatch.setenv("FINETUNE_ASSETS_TASKS", str(folder))
    return folder


def test_a_broken_task_is_shown_with_what_is_wrong_and_takes_no_other_off(own_tasks: Path) -> None:
    loaded = defs()
    assert dg.AssetKey(["sound", "champion"]) in loaded.resolve_all_asset_keys()
    shown = {
        key.path[0]: loaded.resolve_asset_graph().get(key).description
        for key in loaded.resolve_all_asset_keys()
        if key.path[-1] == "broken"
    }
    assert shown.keys() == {"misspelt", "checked", "torn"}
    assert "base_modell: there is no such key (did you mean base_model?)" in str(shown["misspelt"])
    assert f"{own_tasks}/torn/defs.yaml:1: a bracket or a quote is not closed" in str(shown["torn"])


def test_a_check_of_the_definitions_fails_with_all_that_is_wrong(
    own_tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_tasks / "columns").mkdir()
    (own_tasks / "columns/defs.yaml").write_text(
        (ROOT / "data/inputs/table/defs.yaml").read_text().replace("task: table", "task: columns")
    )
    (own_tasks / "columns/questions.csv").write_text("question,answer,subject\nWhy?,So.,physics\n")
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")  # as `dg check defs` does
    with pytest.raises(TaskFileError) as caught:
        defs()
    told = str(caught.value)
    assert "checked/defs.yaml:20: checks.no_leaks: there is no such check (did you mean no_leakage?)" in told
    assert "columns/defs.yaml:11: source.answer: " in told and "correct_answer" in told
    assert "misspelt/defs.yaml:" in told and "torn/defs.yaml:1: " in told and "sound/" not in told


def test_every_task_lies_in_a_folder_of_its_name() -> None:
    for path in (ROOT / "finetune_assets/defs").glob("*/defs.yaml"):
        assert yaml.safe_load(path.read_text())["attributes"]["task"] == path.parent.name
