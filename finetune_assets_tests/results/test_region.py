"""Where outputs lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_assets.results.region import default_root


def test_the_root_is_the_variable_else_a_folder_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINETUNE_ASSETS_DATA", raising=False)
    assert default_root() == str(tmp_path / "data/outputs")
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", "s3://bucket/prefix")
    assert default_root() == "s3://bucket/prefix"
