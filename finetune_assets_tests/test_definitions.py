"""The code location as Dagster's own commands load it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_every_task_lies_in_a_folder_of_its_name() -> None:
    for path in (ROOT / "finetune_assets/defs").glob("*/defs.yaml"):
        assert yaml.safe_load(path.read_text())["attributes"]["task"] == path.parent.name
