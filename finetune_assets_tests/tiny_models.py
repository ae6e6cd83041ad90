"""Real models of a few thousand random weights, in Hugging Face format, written without importing torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

WIDTH, LAYERS, HEADS, MLP_WIDTH, MAX_LENGTH = 32, 2, 4, 64, 512
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


TOOLS_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool['function']['name'] }}\n{% endfor %}<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\n' if message['content'] or not loop.first }}<tool_call>\n"
    '{"name": "{{ call["function"]["name"] }}", "arguments": {{ call["function"]["arguments"] | tojson }}}\n'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Knows tools, in the form of Hermes and Qwen, but tells no more of them than their names."""


def write_text_model(folder: Path, seed: int = 0, width: int = WIDTH, template: str = CHAT_TEMPLATE) -> Path:
    """A Llama of two layers with a byte-level tokenizer in which Yes and No are words; `width` is a multiple of 8."""
    folder.mkdir(parents=True)
    vocabulary = _write_tokenizer(folder, template)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": MLP_WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": MAX_LENGTH,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        _llama_weights(vocabulary, width, np.random.default_rng(seed)), folder / "model.safetensors", {"format": "pt"}
    )
    return folder


def _write_tokenizer(folder: Path, template: str = CHAT_TEMPLATE) -> int:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Yes No"] * 50 + ["system user assistant"] * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()


def _llama_weights(vocabulary: int, width: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    ones = np.ones(width, np.float32)
    weights = {"model.embed_tokens.weight": matrix(vocabulary, width), "model.norm.weight": ones}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        weights |= {f"{name}.self_attn.{p}_proj.weight": matrix(width, width) for p in "qkvo"}
        weights |= {f"{name}.mlp.{p}_proj.weight": matrix(MLP_WIDTH, width) for p in ("gate", "up")}
        weights[f"{name}.mlp.down_proj.weight"] = matrix(width, MLP_WIDTH)
        weights |= {f"{name}.{norm}.weight": ones for norm in ("input_layernorm", "post_attention_layernorm")}
    return weights
