from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune_assets.errors import BaseModelError
from finetune_assets.server.generation.lora import AdapterShelf, RowLora
from finetune_assets.server.model.network import Network, load
from finetune_assets_tests.server.generation.asking import a_lora
from finetune_assets_tests.server.networks import bundled_vision_base, computing_in, text_base


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    with computing_in("float32"):  # what a row gets is compared number by number
        return load(text_base(tmp_path_factory.mktemp("models")))


def changed(folder: Path, **settings: Any) -> Path:
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return folder


def test_each_row_gets_what_its_adapter_adds(tmp_path: Path, network: Network) -> None:
    shelf, lora = AdapterShelf(network, 10**9), RowLora(network)
    one = shelf.acquire(a_lora(network.base, tmp_path / "one", 1))
    two = shelf.acquire(a_lora(network.base, tmp_path / "two", 2, r=6, target_modules=["q_proj"]))
    layer = network.decoder.layers[0].self_attn.q_proj
    name = "model.layers.0.self_attn.q_proj"
    x = torch.randn(4, 3, 32)
    rows = [two, None, one, two]
    lora.select(rows)
    for row, adapter in enumerate(rows):
        down, up = adapter.layers[name] if adapter else (torch.zeros(1, 32), torch.zeros(32, 1))
        torch.testing.assert_close(layer(x)[row], x[row] @ layer.weight.T + x[row] @ down.T @ up.T)
    lora.select([None])
    torch.testing.assert_close(layer(x), x @ layer.weight.T)


def test_unused_adapters_go_when_memory_runs_short_and_used_ones_stay(tmp_path: Path, network: Network) -> None:
    folders = [a_lora(network.base, tmp_path / str(i), i) for i in range(3)]
    size = AdapterShelf(network, 10**9).acquire(folders[0]).bytes
    shelf = AdapterShelf(network, 2 * size)
    first, second = (shelf.acquire(folder) for folder in folders[:2])
    shelf.release(second)
    third = shelf.acquire(folders[2])
    assert shelf.acquire(folders[0]) is first  # it was in use
    assert shelf.acquire(folders[1]) is not second
    assert shelf.acquire(folders[2]) is third


def test_new_files_in_the_same_folder_are_noticed(tmp_path: Path, network: Network) -> None:
    shelf = AdapterShelf(network, 10**9)
    folder = a_lora(network.base, tmp_path / "one", 1)
    before = shelf.acquire(folder)
    os.utime(a_lora(network.base, folder, 2) / "adapter_model.safetensors", ns=(1, 1))
    after = shelf.acquire(folder)
    assert after.key != before.key


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"use_dora": True}, "use_dora"), ({"peft_type": "IA3"}, "IA3"), ({"modules_to_save": ["lm_head"]}, "modules")],
)
def test_adapters_of_another_kind_are_refused(
    tmp_path: Path, network: Network, settings: dict[str, Any], named: str
) -> None:
    folder = changed(a_lora(network.base, tmp_path / "one", 1), **settings)
    with pytest.raises(BaseModelError, match=f"only plain LoRA is served.*{named}"):
        AdapterShelf(network, 10**9).acquire(folder)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, network: Network) -> None:
    folder = a_lora(network.base, tmp_path / "one", 1)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: weight.repeat(1, 2) for name, weight in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(BaseModelError, match="does not fit the base model"):
        AdapterShelf(network, 10**9).acquire(folder)


def test_a_projector_of_another_tower_is_refused(tmp_path: Path) -> None:
    seeing = load(bundled_vision_base(tmp_path))
    folder = a_lora(text_base(tmp_path), tmp_path / "one", 1)
    save_file({"0.weight": torch.ones(1280)}, folder / "projector.safetensors")
    with pytest.raises(BaseModelError, match="its projector is of another vision tower"):
        AdapterShelf(seeing, 10**9).acquire(folder)


def test_weights_that_diverged_are_refused_before_they_spoil_a_batch(tmp_path: Path, network: Network) -> None:
    folder = a_lora(network.base, tmp_path / "one", 1)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: weight * float("nan") for name, weight in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(BaseModelError, match="not finite"):
        AdapterShelf(network, 10**9).acquire(folder)


def test_broken_and_missing_files_are_named(tmp_path: Path, network: Network) -> None:
    shelf = AdapterShelf(network, 10**9)
    folder = a_lora(network.base, tmp_path / "one", 1)
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(BaseModelError, match="cannot be read"):
        shelf.acquire(folder)
    with pytest.raises(BaseModelError, match="files are gone"):
        shelf.acquire(tmp_path / "gone")
