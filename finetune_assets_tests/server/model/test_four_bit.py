"""Linear layers in 4 bit: learned over, served, written for others and refused, held to their weights in full."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from finetune_assets.errors import BaseModelError, UnfitModelError
from finetune_assets.server import base_models
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.catalog import FoundModel
from finetune_assets.server.export import Form, write
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.memory import weight_bytes
from finetune_assets.server.generation.requests import GenerationRequest, ModelRef
from finetune_assets.server.model import adapters, four_bit
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.training import loop, rehearsal
from finetune_assets.server.training.examples import Example
from finetune_assets.server.training.footprint import footprint, passes
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.objectives import Supervised
from finetune_assets_tests.server.families import text_model
from finetune_assets_tests.server.networks import chat, hub_vision_base, text_base
from finetune_assets_tests.server.training.test_loop import training_request
from finetune_assets_tests.server.watchers import Recorder

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.usefixtures("in_float32")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def base(full: BaseModel) -> BaseModel:
    return replace(full, four_bit=True)


def in_full(network: Network) -> Any:
    """The same model with the weights that its layers in 4 bit stand for."""
    return copy.deepcopy(network.model).dequantize()


def examples(n: int = 3) -> list[Example]:
    drawn = torch.randint(3, 250, (n, 20), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    return [
        Example(row[: 20 - 3 * place], torch.ones(20 - 3 * place, dtype=torch.bool), [])
        for place, row in enumerate(drawn)
    ]


def gradients(network: Network) -> tuple[float, list[Tensor]]:
    """Loss and gradients of drawn LoRA weights, after a look at held-out examples."""
    trained = adapters.add_trainable(network, None, with_images=False, rank=4)["lora"]
    draw = torch.Generator().manual_seed(0)
    for weight in trained:
        weight.data = 0.1 * torch.randn(weight.shape, generator=draw)
    objective = Supervised(network)
    with torch.no_grad():
        objective.losses(examples())
    loss, _ = objective.losses(examples())
    loss.backward()
    return loss.item(), [weight.grad for weight in trained if weight.grad is not None]


def test_losses_and_gradients_are_those_of_the_weights_in_full(full: BaseModel, base: BaseModel) -> None:
    network, plain = load(base), load(full)
    plain.model.load_state_dict(in_full(network).state_dict())
    assert len(four_bit.layers(network.model)) == 14
    assert not four_bit.layers(plain.model)
    (loss, found), (expected_loss, expected) = gradients(network), gradients(plain)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert len(found) == len(expected) == 28
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_a_job_learns_says_what_it_learns_over_and_goes_on_bit_by_bit(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    made = []
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        request, recorder = training_request(tmp_path / name, base), Recorder()
        if name == "stopped":
            assert train(request, Recorder(stop_after=4)) is None
        result = train(request, recorder)
        assert result is not None
        made.append((result.model_dir, recorder))
    (whole, recorder), (stopped, again) = made
    assert recorder.notes[0] == "Training on the CPU in float32, linear layers in 4 bit"
    assert recorder.steps[-1].train_loss < 0.5 * recorder.steps[0].train_loss
    assert again.first_step == 5
    weights = "adapter_model.safetensors"
    assert (whole / weights).read_bytes() == (stopped / weights).read_bytes()
    assert json.loads((whole / adapters.BASE).read_text()) == {
        "model": base.path, "revision": None, "load_in_4bit": True,
    }  # fmt: skip


def test_what_is_learned_means_the_same_served_and_loaded_by_peft(base: BaseModel) -> None:
    assert rehearsal.fails(load(base)) is None


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, base: BaseModel) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    result = train(training_request(folder, base, n_epochs=1), Recorder())
    assert result is not None
    return result.model_dir


def test_it_is_not_served_or_trained_further_on_the_base_in_full(tmp_path: Path, full: BaseModel, tuned: Path) -> None:
    engine = Engine()
    request = GenerationRequest(model=ModelRef(full, tuned), messages=chat("Is it?"), max_tokens=1)
    refused = (
        r"trained on 'tiny-text' in 4 bit, which models.yaml now has in full; let 'tiny-text' be \{model: .*4bit: true"
    )
    with pytest.raises(BaseModelError, match=refused):
        engine.complete(request)
    engine.close()
    with pytest.raises(BaseModelError, match=refused):
        train(training_request(tmp_path, full, adapter=tuned), Recorder())


def test_what_was_learned_over_the_base_in_full_is_not_served_in_4_bit(
    tmp_path: Path, full: BaseModel, base: BaseModel
) -> None:
    result = train(training_request(tmp_path, full, n_epochs=1), Recorder())
    assert result is not None
    with pytest.raises(BaseModelError, match="trained on 'tiny-text' in full, which models.yaml now has in 4 bit"):
        adapters.check_base(load(base), result.model_dir)


@pytest.mark.parametrize("form", ["adapter", "merged", "gguf"])
def test_other_tools_are_given_what_answers_as_it_is_served(
    tmp_path: Path, base: BaseModel, tuned: Path, form: Form
) -> None:
    parity = write(FoundModel(base, "mine", tuned), tuned, "ft:mine", tmp_path / form, form)
    assert parity.holds and parity.base_in_4_bit
    assert parity.largest_difference < 1e-4
    card = " ".join((tmp_path / form / "README.md").read_text().split())
    assert f"trained on {base.path} with its linear layers in 4 bit" in card
    assert ("'load_in_4bit': True" in card) == (form == "adapter")
    assert ("merged into these layers as they are in 4 bit" in card) == (form != "adapter")
    if form == "merged":
        assert "quantization_config" not in json.loads((tmp_path / form / "config.json").read_text())


def test_files_in_4_bit_are_loaded_as_they_are(tmp_path: Path, base: BaseModel) -> None:
    network = load(base)
    network.model.save_pretrained(tmp_path / "stored")
    network.tokenizer.save_pretrained(tmp_path / "stored")
    (tmp_path / "models.yaml").write_text(f"stored: {tmp_path / 'stored'}\n")
    stored = base_models.resolve("stored", tmp_path)
    assert stored.four_bit and base_models.in_four_bit("stored", tmp_path)
    again = load(stored)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(again.model(ids).logits, network.model(ids).logits)
    assert footprint(stored, tokens=50).base == four_bit.n_bytes(network.model) == weight_bytes(base)
    assert rehearsal.fails(again) is None


def test_layers_that_hold_nothing_take_what_real_ones_take(base: BaseModel) -> None:
    found, network = footprint(base, tokens=200, rank=4), load(base)
    trained = adapters.add_trainable(network, None, with_images=False, rank=4)["lora"]
    assert found.base == four_bit.n_bytes(network.model)
    assert found.trained == 5 * sum(parameter.nbytes for parameter in trained)
    known = [*network.model.parameters(), *network.model.buffers()]
    assert found.passes == pytest.approx(passes(network, 200, known=known), rel=0.05)


def test_what_shows_images_stays_in_full(tmp_path: Path) -> None:
    network = load(replace(hub_vision_base(tmp_path), four_bit=True))
    inside = {id(module) for module in network.decoder.modules()}
    linear = [module for module in network.model.modules() if isinstance(module, nn.Linear)]
    packed = {id(module) for module in four_bit.layers(network.model)}
    assert packed == {id(module) for module in linear if id(module) in inside}
    assert len(packed) < len(linear) - 1


def test_a_model_that_would_gain_little_is_refused(tmp_path: Path) -> None:
    mixture = replace(text_model("Qwen3 MoE", tmp_path), four_bit=True)
    with pytest.raises(
        UnfitModelError, match="gains little from 4 bit: most of its weights lie in no plain linear layers"
    ):
        load(mixture)
