"""Tasks beside other components: in a `dg` project of the user's, and in a clone, which is one, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster.components.component_scaffolding import scaffold_object

from finetune_assets import definitions
from finetune_assets.errors import TaskError
from finetune_assets.pipeline.stage import PREPARE
from finetune_assets.task import read_task
from finetune_assets.task.places import TYPE

_OTHER = '''
import dagster as dg


class Warehouse(dg.Component, dg.Model, dg.Resolvable):
    """A component of another kind."""

    table: str

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(assets=[dg.AssetSpec(self.table)])
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `dg` project with a component of another kind, as the working directory."""
    defs = tmp_path / "shop/defs"
    (defs / "ware/house").mkdir(parents=True)
    for package in (defs.parent, defs):
        (package / "__init__.py").touch()
    (defs.parent / "warehouse.py").write_text(_OTHER)
    (defs / "ware/house/defs.yaml").write_text("type: shop.warehouse.Warehouse\nattributes: {table: orders}\n")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "shop"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINETUNE_ASSETS_TASKS", raising=False)
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", str(tmp_path / "outputs"))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


def scaffold(path: Path, params: str = "{}") -> None:
    """Do what `dg scaffold defs finetune_assets.pipeline.FineTuningTask PATH` does."""
    scaffold_object(path, TYPE, params, "yaml", None)


def test_a_scaffolded_task_loads_beside_another_component_and_its_data_half_runs(project: Path) -> None:
    scaffold(project / "shop/defs/vision/reviews_of_guests")
    loaded = dg.load_from_defs_folder(path_within_project=project)
    assert {dg.AssetKey("orders"), dg.AssetKey("leaderboard"), dg.AssetKey("finetune_jobs")} < set(
        loaded.resolve_all_asset_keys()
    )
    assert read_task("reviews_of_guests").regions == ["reviews"]
    until = PREPARE[: PREPARE.index("uploaded_file")]
    job = loaded.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(["reviews_of_guests", stage]) for stage in until]
    assert job.execute_in_process(asset_selection=keys, partition_key="reviews").success
    assert (project / "outputs/reviews_of_guests/training_jsonl/reviews/train.jsonl").exists()


def test_several_tasks_of_a_project_share_one_leaderboard(project: Path) -> None:
    for name in ("one", "nested/two"):
        scaffold(project / "shop/defs" / name, '{"provider": "openai", "base_model": "gpt-4o-2024-08-06"}')
    keys = [
        key.to_user_string() for key in dg.load_from_defs_folder(path_within_project=project).resolve_all_asset_keys()
    ]
    assert keys.count("leaderboard") == 1 and {"one/champion", "two/champion"} < set(keys)
    assert read_task("two").provider == "openai"


@pytest.mark.parametrize("name", ["My-Task", "2nd", "a" * 65])
def test_a_name_that_no_task_may_have_is_not_scaffolded(project: Path, name: str) -> None:
    with pytest.raises(TaskError, match="begins with a letter, got"):
        scaffold(project / "shop/defs" / name)


def test_what_lies_beside_the_tasks_of_a_clone_is_loaded_with_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaffold(project / "shop/defs/guests")
    monkeypatch.setattr("finetune_assets.definitions.SHIPPED", project / "shop/defs")
    monkeypatch.setattr("finetune_assets.task.places.SHIPPED", project / "shop/defs")
    keys = {key.to_user_string() for key in definitions.defs().resolve_all_asset_keys()}
    assert {"orders", "guests/champion", "leaderboard"} < keys and not any("broken" in key for key in keys)


def test_a_component_of_a_clone_that_dagster_cannot_load_takes_no_task_off(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaffold(project / "shop/defs/guests")
    (project / "shop/defs/ware/house/defs.yaml").write_text("type: not_installed.DbtProjectComponent\n")
    monkeypatch.setattr("finetune_assets.definitions.SHIPPED", project / "shop/defs")
    monkeypatch.setattr("finetune_assets.task.places.SHIPPED", project / "shop/defs")
    keys = {key.to_user_string() for key in definitions.defs().resolve_all_asset_keys()}
    assert {"guests/champion", "beside_the_tasks/broken"} < keys
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(Exception, match="not_installed"):
        definitions.defs()
