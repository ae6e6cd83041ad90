"""What is written for other tools is the model that is served, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai.types.fine_tuning import FineTuningJob

from finetune_assets.errors import ExportError
from finetune_assets.server.export import GGUF, PARITY, Form, export
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.usefixtures("in_float32")


FILES: dict[Form, set[str]] = {
    "adapter": {"tokenizer.json", "adapter_model.safetensors"}, "merged": {"tokenizer.json", "model.safetensors"},
    "gguf": {GGUF},
}  # fmt: skip


@pytest.mark.parametrize("form", FILES)
def test_an_exported_model_answers_as_the_served_one(
    server: ServerProcess, finished: FineTuningJob, tmp_path: Path, form: Form
) -> None:
    parity = export(server.home, finished.fine_tuned_model or "", tmp_path / "out", form)
    assert parity.holds
    assert parity.same_answers == parity.prompts == 3
    assert parity.largest_difference < 1e-4
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"README.md", PARITY} | FILES[form] <= written
    assert json.loads((tmp_path / "out" / PARITY).read_text())["holds"] is True


def test_what_cannot_be_exported_is_refused_before_anything_is_written(server: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'tiny-text' is a base model: it lies at"):
        export(server.home, "tiny-text", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match="is not empty; name a new folder"):
        export(server.home, "tiny-text", tmp_path)
