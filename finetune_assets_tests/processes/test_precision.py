"""The precision that a command asks for, and the fine-tuning server that runs already."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_assets.errors import PrecisionError
from finetune_assets.processes import ProcessError, fine_tuning_server
from finetune_assets.provider.local_server import HOME
from finetune_assets.server.devices import PRECISION
from finetune_assets_tests.server_process import ServerProcess, make_home


def test_a_server_in_another_precision_is_refused_and_any_is_used_where_none_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PRECISION, "bfloat16")
    with ServerProcess(make_home(tmp_path / HOME)):
        monkeypatch.setenv(PRECISION, "float32")
        with pytest.raises(ProcessError, match="FINETUNE_ASSETS_DTYPE bfloat16, here it is float32: stop it first"):
            fine_tuning_server(print).__enter__()
        for agreed in ("bfloat16", "auto"):
            monkeypatch.setenv(PRECISION, agreed)
            with fine_tuning_server(print):
                pass


def test_a_precision_that_is_none_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PRECISION, "half")
    with pytest.raises(PrecisionError, match="FINETUNE_ASSETS_DTYPE is 'half'"):
        fine_tuning_server(print).__enter__()
    assert not list(tmp_path.iterdir())
