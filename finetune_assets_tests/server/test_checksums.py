"""Weights that are not those that were published are refused by name, wherever they are loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_assets.errors import BaseModelError
from finetune_assets.server import checksums
from finetune_assets.server.generation.lora import AdapterShelf
from finetune_assets.server.model.adapters import add_trainable
from finetune_assets.server.model.network import Network, load
from finetune_assets_tests.server.generation.asking import a_lora
from finetune_assets_tests.server.networks import text_base

WEIGHTS = "adapter_model.safetensors"


def flip(path: Path) -> Path:
    """Change one byte in the middle of a file, as a bad disk or a person would."""
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    path.write_bytes(data)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return load(text_base(tmp_path / "base"))


@pytest.fixture
def adapter(tmp_path: Path, network: Network) -> Path:
    folder = a_lora(network.base, tmp_path / "adapter", 1)
    checksums.write(folder)
    return folder


LOADING: dict[str, Callable[[Network, Path], object]] = {
    "served": lambda network, folder: AdapterShelf(network, 10**9).acquire(folder),
    "trained further": lambda network, folder: add_trainable(network, folder, with_images=False),
}


@pytest.mark.parametrize("use", LOADING)
@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json"])
def test_a_flipped_byte_of_a_fine_tuned_model_is_refused_by_name(
    network: Network, adapter: Path, name: str, use: str
) -> None:
    flip(adapter / name)
    with pytest.raises(BaseModelError, match=f"{name}: its bytes were changed after it was published"):
        LOADING[use](network, adapter)


@pytest.mark.parametrize("use", LOADING)
def test_a_fine_tuned_model_as_it_was_published_is_loaded(network: Network, adapter: Path, use: str) -> None:
    LOADING[use](network, adapter)


def test_a_flipped_byte_of_a_base_model_that_is_pinned_is_refused_by_name(tmp_path: Path) -> None:
    base = text_base(tmp_path)
    folder = Path(base.path)
    checksums.write(folder)
    load(base)
    flip(folder / "model.safetensors")
    with pytest.raises(BaseModelError, match="model.safetensors: its bytes were changed"):
        load(base)


def test_weights_in_the_hubs_cache_are_known_by_their_names(tmp_path: Path) -> None:
    content = b"weights"
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(blob)
    checksums.check(tmp_path / "snapshot")
    flip(blob)
    with pytest.raises(BaseModelError, match="model.safetensors: its bytes were changed"):
        checksums.check(tmp_path / "snapshot")


def test_a_file_that_is_named_and_gone_is_missed(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    checksums.write(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(BaseModelError, match="the file is gone, which SHA256SUMS names"):
        checksums.check(tmp_path)


@pytest.mark.parametrize("line", ["nonsense", "0" * 64, f"{'0' * 64}  ../../etc/passwd", f"{'0' * 63}  a"])
def test_sums_that_are_none_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / checksums.SUMS).write_text(line)
    with pytest.raises(BaseModelError, match="no line of `sha256sum`"):
        checksums.check(tmp_path)


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{}")
    checksums.write(tmp_path)
    expected = f"{hashlib.sha256(b'{}').hexdigest()}  a.json\n"
    assert (tmp_path / checksums.SUMS).read_text() == expected
    (tmp_path / checksums.SUMS).write_text(expected.replace("  ", " *"))
    checksums.check(tmp_path)
