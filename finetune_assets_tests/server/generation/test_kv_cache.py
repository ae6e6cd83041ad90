from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_assets.errors import BaseModelError
from finetune_assets.server.generation.kv_cache import KeyValueCache, layout_of
from finetune_assets.server.model.network import Network, load
from finetune_assets_tests.server.networks import text_base

SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip


def network_of(model: Any) -> Network:
    """A network of random weights, without the tokenizer, which the cache does not need."""
    torch.manual_seed(0)
    made = model.eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    base: Any = type("Base", (), {"name": "made"})
    none: Any = None
    embedding, head = made.get_input_embeddings(), made.get_output_embeddings()
    return Network(base, made, none, none, set(), embedding, made.model, head, None, 256)


def decoders() -> dict[str, Any]:
    """One decoder of each kind of attention."""
    from transformers import (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    return {
        "grouped queries": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        "full attention by layer type": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
        "a sliding window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5)),
        "some layers with a sliding window": lambda: Gemma3ForCausalLM(
            Gemma3TextConfig(
                **SIZES, head_dim=8, sliding_window=5, layer_types=["sliding_attention", "full_attention"] * 2
            )
        ),
    }


@pytest.mark.parametrize("kind", list(decoders()))
@torch.inference_mode()
def test_rows_of_different_lengths_grow_as_each_would_alone(kind: str) -> None:
    network = network_of(decoders()[kind]())
    cache = KeyValueCache(layout_of(network), rows=2, capacity=8).resized(4, 40)
    ids = torch.randint(1, 50, (3, 24), generator=torch.Generator().manual_seed(1))
    expected = network.decoder(inputs_embeds=network.embedding(ids)).last_hidden_state
    starts = [0, 0, 0]
    # The rows take different numbers of steps of different widths; what pads a row is overwritten by its next step.
    for widths in ([5, 3, 8], [1, 1, 1], [1, 1, 1], [4, 7, 2], [1, 1, 1], [6, 6, 6]):
        width = max(widths)
        rows = torch.stack([ids[r, (torch.arange(width) + starts[r]).clamp(max=23)] for r in range(3)])
        place = cache.begin(torch.tensor(starts), width)
        states = network.decoder(inputs_embeds=network.embedding(rows), use_cache=True, **place).last_hidden_state
        for r in range(3):
            own = expected[r, starts[r] : starts[r] + widths[r]]
            torch.testing.assert_close(states[r, : widths[r]], own, atol=2e-4, rtol=2e-4)
            starts[r] += widths[r]


@torch.inference_mode()
def test_rows_and_parts_of_rows_can_be_moved_between_caches() -> None:
    network = network_of(decoders()["grouped queries"]())
    layout = layout_of(network)
    first, second = KeyValueCache(layout, 2, 20), KeyValueCache(layout, 3, 30)
    ids = torch.randint(1, 50, (2, 11), generator=torch.Generator().manual_seed(1))
    embedded = network.embedding(ids)
    network.decoder(inputs_embeds=embedded[:, :10], use_cache=True, **first.begin(torch.zeros(2, dtype=torch.long), 10))
    second.write(0, 0, [first.read(1, 0, 4), first.read(1, 4, 10)])
    second.copy(first, 0, 1, 10)
    place = second.begin(torch.tensor([10, 10]), 1)
    states = network.decoder(inputs_embeds=embedded[[1, 0], 10:], use_cache=True, **place).last_hidden_state
    expected = network.decoder(inputs_embeds=embedded).last_hidden_state[[1, 0], 10:]
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_cleared_row_leaves_nothing_behind() -> None:
    layout = layout_of(network_of(decoders()["grouped queries"]()))
    cache = KeyValueCache(layout, 2, 20)
    cache.begin(torch.zeros(2, dtype=torch.long), 3)
    broken = torch.full((2, 2, 3, 8), float("nan"))
    cache.update(broken, broken, 0)
    cache.clear(0, 3)
    keys, values = cache.read(0, 0, 20)[0].chunk(2)
    assert not keys.any()
    assert not values.any()


def test_the_memory_of_a_token_is_that_of_its_keys_and_values() -> None:
    layout = layout_of(network_of(decoders()["grouped queries"]()))
    assert layout.bytes_per_token == 4 * 2 * 2 * 8 * 4  # layers, keys and values, heads, width, bytes


def test_a_decoder_without_keys_and_values_is_refused_by_name() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4))
    base: Any = type("Base", (), {"name": "made"})
    none: Any = None
    network = Network(
        base, model, none, none, set(), model.backbone.embeddings, model.backbone, model.lm_head, None, 256
    )
    with pytest.raises(BaseModelError, match="'made' cannot generate here.*MambaModel"):
        layout_of(network)


def test_a_real_model_folder_suits(tmp_path: Path) -> None:
    network = load(text_base(tmp_path))
    assert layout_of(network).windows == {"full_attention": None}
