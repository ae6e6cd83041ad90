"""What a training takes, found without weights, against what it does take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from finetune_assets.server.base_models import SHARE, TEXT_MODEL, BaseModel
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import load
from finetune_assets.server.training.footprint import Ledger, footprint, passes
from finetune_assets.server.training.room import ERROR
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.server.networks import computing_in, text_base

GIB = 2**30


def test_a_ledger_adds_up_what_lives_and_remembers_the_most() -> None:
    known = torch.zeros(1000)
    with Ledger(known=[known]) as ledger:
        first = torch.zeros(256)
        _view = first.view(16, 16)  # no bytes of its own
        second = known + 1
        assert ledger.live == 4 * (256 + 1000)
        del second
        assert ledger.live == 4 * 256
        _in_place = known.add_(1)
    assert ledger.peak == 4 * (256 + 1000)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("recompute", [False, True])
def test_tensors_that_hold_nothing_take_what_real_ones_take(tmp_path: Path, recompute: bool) -> None:
    base = text_base(tmp_path)
    found = footprint(base, tokens=200, rank=4, recompute=recompute)
    network = load(base)
    trained = adapters.add_trainable(network, None, with_images=False, rank=4)["lora"]
    if recompute:
        network.recompute()
    parameters = list(network.model.parameters())
    assert found.trained == 5 * sum(parameter.nbytes for parameter in trained)
    assert found.base == sum(parameter.nbytes for parameter in parameters if not parameter.requires_grad)
    real = passes(network, 200, known=[*parameters, *network.model.buffers()])
    assert found.passes == pytest.approx(real, rel=0.05)


@pytest.mark.usefixtures("in_float32")
def test_recomputing_keeps_less(tmp_path: Path) -> None:
    base = text_base(tmp_path)
    assert footprint(base, tokens=400, recompute=True).passes < 0.8 * footprint(base, tokens=400).passes


@long
@pytest.mark.parametrize(("tokens", "measured"), [(4096, 37), (16_384, 107)])
def test_a_model_of_7_billion_weights_takes_what_it_took_on_an_h200(tmp_path: Path, tokens: int, measured: int) -> None:
    """Gibibytes that were measured on 29 November 2026, in bfloat16, with LoRA on queries and values."""
    for file in (SHARE / TEXT_MODEL).iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32}
    config |= {"num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with computing_in("bfloat16"):
        found = footprint(BaseModel(TEXT_MODEL, str(tmp_path), vision=False), tokens=tokens)
    assert found.total / GIB == pytest.approx(measured, rel=ERROR)
