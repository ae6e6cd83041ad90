"""What a stage leaves is whole or not there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from upath import UPath

from finetune_assets.results.files import write_atomically, write_json


def test_nan_is_null_in_json(tmp_path: Path) -> None:
    write_json(UPath(tmp_path) / "x.json", {"ece": math.nan})
    assert json.loads((tmp_path / "x.json").read_text()) == {"ece": None}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = UPath(tmp_path) / "new/file.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # pyright: ignore[reportArgumentType]
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [("file.json", b"old")]
