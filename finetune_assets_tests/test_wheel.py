"""The package as pip installs it, in an empty folder and without a clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from finetune_assets import __version__
from finetune_assets_tests.demo.homes import write_task

ROOT = Path(__file__).parents[1]
_PACKAGED = ("finetune_assets", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with our wheel, which takes the other packages from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    # A build leaves files in its source.
    with tarfile.open(folder / "source.tar", "w") as packed:
        for name in _PACKAGED:
            packed.add(ROOT / name, name, filter=lambda file: None if "__pycache__" in file.name else file)
    with tarfile.open(folder / "source.tar") as packed:
        packed.extractall(folder / "source", filter="data")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(folder / "source")], check=True)
    venv.create(folder / "env", symlinks=True)
    (site,) = (folder / "env/lib").glob("python3*/site-packages")
    (wheel,) = folder.glob("*.whl")
    # Without --ignore-installed pip would take the package out of the environment that runs the tests.
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--ignore-installed"]
    subprocess.run([*install, "--prefix", str(folder / "env"), str(wheel)], check=True)
    others = Path(pytest.__file__).parents[1]
    (site / "others.pth").write_text(f"{others}\n")
    return folder / "env/bin"


def run(installed: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    command = [str(installed / "python"), "-m", *arguments]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_it_lists_the_shipped_tasks_and_the_user_s_own(installed: Path, tmp_path: Path) -> None:
    task = write_task(tmp_path, "moles")
    task.write_text(task.read_text().replace("tiny-text", "smollm2-135m-instruct"))
    done = run(installed, tmp_path, "finetune_assets.cli", "doctor", "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert {f"task {name}" for name in ("moles", "solar_cells", "science_qa")} <= set(found)
    assert str(tmp_path) in found["outputs"]["words"]
    version = run(installed, tmp_path, "finetune_assets.cli", "--version")
    assert version.stdout == f"finetune-assets {__version__}\n"


def test_its_definitions_load_by_the_workspace_that_it_brings(installed: Path, tmp_path: Path) -> None:
    write_task(tmp_path, "moles")
    code = """
from importlib import resources
from finetune_assets.definitions import defs
import finetune_assets
assert resources.files("finetune_assets.pipeline").joinpath("workspace.yaml").is_file()
assert "site-packages" in finetune_assets.__file__, finetune_assets.__file__
print(sorted(key.path[0] for key in defs().resolve_asset_graph().get_all_asset_keys() if key.path[-1] == "champion"))
"""
    (tmp_path / "look.py").write_text(code)
    done = run(installed, tmp_path, "look")
    assert done.returncode == 0, done.stderr
    assert "'moles'" in done.stdout and "'solar_cells'" in done.stdout
