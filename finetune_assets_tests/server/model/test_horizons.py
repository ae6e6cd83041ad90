"""Where attention changes beyond a length, a trial of a few tokens reaches it, and what is wrong ends the context."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune_assets.server.model import horizons, proof
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.model.own_forward import logits_at
from finetune_assets_tests.server.families.text import text_model
from finetune_assets_tests.server.networks import text_base

pytestmark = pytest.mark.usefixtures("in_float32")


def loaded(name: str, folder: Path) -> Network:
    return load(text_model(name, folder))


def test_a_selection_that_grows_otherwise_than_at_once_ends_the_context_where_it_begins(tmp_path: Path) -> None:
    network = loaded("GLM-5", tmp_path)
    assert proof.fails(network) is None  # twelve tokens tell nothing of a selection of 512
    assert network.max_length == 512
    assert network.shortened is not None
    assert network.shortened.startswith("index_topk is 512, and beyond it a text that grows has other logits")


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("DeepSeek-V3.2", "index_topk"),
        ("Gemma 3", "sliding_window"),
        ("Phi-3 with LongRoPE", "original_max_position_embeddings"),
    ],
)
def test_a_model_that_is_right_beyond_the_length_keeps_its_context(tmp_path: Path, name: str, setting: str) -> None:
    network = loaded(name, tmp_path)
    assert list(horizons.horizons(network)) == [setting]
    assert (network.max_length, network.shortened) == (4096, None)


def test_a_length_that_changes_nothing_when_it_is_near_ends_the_context(tmp_path: Path) -> None:
    network = load(text_base(tmp_path))
    network.decoder.config.index_topk = 100
    assert horizons.end(network) == (
        100,
        "index_topk is 100, and beyond it it could not be tried, as it changes nothing when it is small",
    )


def test_a_length_that_the_context_does_not_reach_is_none_of_ours(tmp_path: Path) -> None:
    network = load(text_base(tmp_path))
    network.decoder.config.attention_chunk_size = network.max_length
    assert horizons.horizons(network) == {}


@torch.no_grad()
def test_what_was_brought_near_is_as_far_as_before(tmp_path: Path) -> None:
    network, last = loaded("Gemma 3", tmp_path), torch.tensor([11])
    row = proof.ordinary_tokens(network, 12)
    far = logits_at(network.model, row, {}, last)
    with pytest.raises(ZeroDivisionError), horizons.brought_near(network, "sliding_window"):
        assert not proof.close(logits_at(network.model, row, {}, last), far)
        raise ZeroDivisionError
    assert torch.equal(logits_at(network.model, row, {}, last), far)
