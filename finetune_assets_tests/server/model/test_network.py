from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import BaseModelError, UnfitModelError
from finetune_assets.server.base_models import TEXT_MODEL, BaseModel
from finetune_assets.server.model.network import Network, common_prefix, load
from finetune_assets_tests.server.families import text_model
from finetune_assets_tests.server.networks import computing_in, text_base


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    with computing_in("float32"):  # states and gradients are compared number by number
        return load(text_base(tmp_path_factory.mktemp("models")))


def test_a_shared_prefix_changes_no_state(network: Network) -> None:
    rows = [[1, 5, 6, 7, 20, 21], [1, 5, 6, 7, 30, 31]]
    embedded = network.embed(rows, [[], []])
    torch.testing.assert_close(network.states(embedded, 4), network.states(embedded, 0)[:, 4:], atol=1e-5, rtol=1e-4)


def test_gradients_flow_through_a_shared_prefix(network: Network) -> None:
    rows = [[1, 5, 6, 7, 20, 21], [1, 5, 6, 7, 30, 31]]
    gradients = []
    for shared in (0, 4):
        embedded = network.embed(rows, [[], []]).detach().requires_grad_()
        network.states(embedded, shared)[:, -1].sum().backward()
        assert embedded.grad is not None
        gradients.append(embedded.grad)
    own_way, shared_way = gradients
    torch.testing.assert_close(shared_way[:, 4:], own_way[:, 4:], atol=1e-5, rtol=1e-3)
    # The shared tokens ran once, as row 0: it collects what all rows would have.
    torch.testing.assert_close(shared_way[0, :4], own_way[:, :4].sum(0), atol=1e-5, rtol=1e-3)


@pytest.mark.usefixtures("in_float32")
@torch.inference_mode()
def test_the_layout_for_serving_changes_no_state(tmp_path: Path) -> None:
    network = load(text_base(tmp_path))
    decoder = network.decoder
    for module in decoder.modules():
        if "RMSNorm" in type(module).__name__:
            module.weight.data += torch.rand_like(module.weight)
    embedded = network.embed([[1, 5, 6, 7, 20, 21]], [[]])
    before = network.states(embedded, 0)
    network.lay_out_for_serving()
    torch.testing.assert_close(network.states(embedded, 0), before, atol=1e-5, rtol=1e-4)
    assert "forward" in vars(decoder.norm)  # the faster one is in use


def test_a_missing_model_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"(?s)cannot be loaded from .*finetune_assets.server.base_models"):
        load(BaseModel(TEXT_MODEL, str(tmp_path), vision=False))


def change_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def change_config(folder: Path, **settings: Any) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))


def without_a_layer(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: weight for name, weight in weights.items() if "layers.1." not in name}


def with_an_index_of_a_missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    where = {
        "model.norm.weight": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "lacks weights": (lambda f: change_weights(f, without_a_layer), r"its files lack 9 of its weights \(model"),
    "lacks a shard": (with_an_index_of_a_missing_shard, "cannot be loaded from .*model-00002-of-00002.safetensors"),
    "of another shape": (lambda f: change_config(f, intermediate_size=48), "cannot be loaded from"),
    "cut off": (lambda f: os.truncate(f / "model.safetensors", 5_000), "cannot be loaded from"),
    "of an unknown kind": (lambda f: change_config(f, model_type="newest"), "cannot be loaded from .*`newest`"),
    "code of its own": (
        lambda f: change_config(f, model_type="own", auto_map={"AutoConfig": "own.Config"}), "needs code of its own"
    ),
    "packed in an unknown way": (
        lambda f: change_config(f, quantization_config={"quant_method": "modelopt"}), "as 'modelopt' packs them"
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be loaded from"),
    "a template that divides by 0": (
        lambda f: (f / "chat_template.jinja").write_text("{{ 1 / 0 }}"), "does not take this .*: division by zero"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_model_whose_files_are_not_whole_or_of_no_use_is_refused_with_what_is_wrong(
    tmp_path: Path, what: str
) -> None:
    base = text_base(tmp_path)
    change, told = BROKEN[what]
    change(Path(base.path))
    with pytest.raises(UnfitModelError, match=rf"(?s)'{base.name}'.*{told}"):
        load(base)


def test_a_tokenizer_that_comes_with_its_control_tokens_alone_is_refused(tmp_path: Path) -> None:
    base = text_model("Qwen2", tmp_path)  # of this kind transformers makes a tokenizer without any file
    (Path(base.path) / "tokenizer.json").unlink()
    with pytest.raises(UnfitModelError, match="'Qwen2': its tokenizer has no tokenizer.json"):
        load(base)


def test_a_model_in_4_bit_needs_bitsandbytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        UnfitModelError, match=r"4 bit, which needs bitsandbytes: pip install 'finetune_assets\[fourbit\]'"
    ):
        load(replace(text_base(tmp_path), four_bit=True))


@pytest.mark.parametrize(
    ("stored", "four_bit", "refused"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            False,
            "its files hold it in 8 bit, .* name the model",
        ),
        (
            {"quant_method": "awq", "bits": 4},
            True,
            r"its files are quantised already \(awq\); take its load_in_4bit away",
        ),
    ],
)
def test_files_that_are_quantised_otherwise_are_refused(
    tmp_path: Path, stored: dict[str, Any], four_bit: bool, refused: str
) -> None:
    base = replace(text_base(tmp_path), four_bit=four_bit)
    config = Path(base.path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": stored}))
    with pytest.raises(UnfitModelError, match=refused):
        load(base)


@given(
    prefix=st.lists(st.integers(0, 9), max_size=5),
    tails=st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=4),
    at_most=st.integers(0, 12),
)
def test_the_common_prefix_is_the_longest_one_allowed(prefix: list[int], tails: list[list[int]], at_most: int) -> None:
    rows = [prefix + tail for tail in tails]
    length = common_prefix(rows, at_most)
    assert length <= at_most
    assert all(row[:length] == rows[0][:length] for row in rows)
    if length < min(at_most, *map(len, rows)):
        assert len({row[length] for row in rows}) > 1


def test_a_prefix_ends_before_an_image_slot() -> None:
    assert common_prefix([[4, 5, -1, -1, 6], [4, 5, -1, -1, 6]], at_most=9) == 2
