"""The precision of everything that computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune_assets.server.devices import Precision
from finetune_assets.server.model import precision
from finetune_assets.server.model.network import load
from finetune_assets.server.model.precision import device_and_dtype
from finetune_assets_tests.server.networks import computing_in, text_base

FORCED: tuple[Precision, ...] = ("float32", "bfloat16")


@pytest.mark.parametrize("name", FORCED)
def test_a_model_is_loaded_in_the_precision_that_is_named(tmp_path: Path, name: Precision) -> None:
    with computing_in(name):
        network = load(text_base(tmp_path))
    assert {weight.dtype for weight in network.model.parameters()} == {getattr(torch, name)}


def test_left_to_the_machine_it_is_what_was_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_DECIDED", tmp_path / "cpu_dtype.json")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = set()
    for _ in range(2):
        precision._faster_on_this_cpu.cache_clear()
        with computing_in("auto"):
            found.add(device_and_dtype())
    precision._faster_on_this_cpu.cache_clear()
    assert found in ({(torch.device("cpu"), getattr(torch, name))} for name in FORCED)
    assert str(found.pop()[1]).removeprefix("torch.") in (tmp_path / "cpu_dtype.json").read_text()
