"""What is looked at before anything is run, and in which words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_assets import doctor
from finetune_assets.preflight.finding import Finding
from finetune_assets.task import task_names
from finetune_assets_tests.postgres_server import new_schema


def states() -> dict[str, Finding]:
    return {finding.what: finding for finding in doctor.examine()}


def test_a_sound_installation_is_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", str(tmp_path / "outputs"))
    found = states()
    assert {name: found[name].state for name in ("installation", "outputs")} == dict.fromkeys(
        ("installation", "outputs"), "good"
    )
    assert [f"task {name}" for name in task_names()] == [name for name in found if name.startswith("task ")]
    assert found["task solar_cells"].words == "2 regions, gpt-4o-2024-08-06 at local"
    assert not list((tmp_path / "outputs").iterdir())


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("bfloat16", "good", "bfloat16, because FINETUNE_ASSETS_DTYPE says so"),
        ("auto", "good", "FINETUNE_ASSETS_DTYPE=float32 or bfloat16 sets it"),
        ("half", "bad", "FINETUNE_ASSETS_DTYPE is 'half', which is no precision"),
    ],
)
def test_the_precision_is_told_with_its_reason(
    said: str, state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_DTYPE", said)
    found = doctor._precision()
    assert found.state == state and words in found.words, found


def test_outputs_that_cannot_be_written_are_bad_and_so_is_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "finetune_assets.cli", "doctor", "--format", "json"],
        env={"PATH": "/usr/bin", "FINETUNE_ASSETS_DATA": str(tmp_path / "file" / "outputs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    [outputs] = [finding for finding in json.loads(done.stdout) if finding["what"] == "outputs"]
    assert outputs["state"] == "bad" and "see FINETUNE_ASSETS_DATA" in outputs["words"]


def test_outputs_in_a_store_are_for_one_machine_until_machines_have_a_database_in_common(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", "memory://doctor")
    outputs = doctor._outputs()
    assert outputs.state == "warning" and "until FINETUNE_ASSETS_FEEDBACK_DB names PostgreSQL" in outputs.words
    assert not list(doctor._common_database())
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", new_schema(postgres))
    assert [finding.state for finding in (doctor._outputs(), *doctor._common_database())] == ["good", "good"]
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", "postgresql://ann:secret@127.0.0.1:1/reviews")
    [common] = doctor._common_database()
    assert common.state == "bad" and "does not answer" in common.words and "secret" not in common.words
