"""What tiny models of random weights are made of: sizes, tokenizers with control tokens, templates, weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune_assets_tests.tiny_models import write_text_model

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096, "pad_token_id": 0,
}  # fmt: skip
CHATML = ("<|im_start|>", "<|im_end|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>")
LINEAR = {
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_BEGINS = ("s", "bos", "begin_of_text", "startoftext")


def save(model: Any, target: Path) -> None:
    """Weights of the size that trained ones have: with those that transformers draws, all tokens are as likely."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=weight.shape[-1] ** -0.5)
    model.float().eval().save_pretrained(target)


def make_tokenizer(
    folder: Path,
    tokens: tuple[str, ...],
    template: str | None,
    *,
    pieces: bool = False,
    named: dict[str, str] | None = None,
) -> Any:
    """A tokenizer with these control tokens, of which the last ends an answer.

    Args:
        folder: where it is made.
        tokens: control tokens.
        template: a chat template, the name of one that TRL ships, or None.
        pieces: whether it is like SentencePiece's, with a sign for spaces and bytes for what is rare.
        named: tokens that a processor looks for by these names.
    """
    from transformers import AutoTokenizer

    made = write_text_model(folder / "tokenizer")
    if pieces:
        _write_pieces(made)
    tokenizer: Any = AutoTokenizer.from_pretrained(made)
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.eos_token = tokens[-1]
    begins = [token for token in tokens if token.strip("<|>").lower().replace("_token", "") in _BEGINS]
    tokenizer.bos_token = begins[0] if begins else None
    tokenizer.chat_template = published(template) if template and "{%" not in template else template
    if named:
        tokenizer.init_kwargs.update(named)
        tokenizer._set_model_specific_special_tokens(named)
    return tokenizer


def _write_pieces(folder: Path) -> None:
    """Put a tokenizer as Llama 2 and Mistral have one in place of the byte-level one."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    seed = Tokenizer(BPE())
    characters = [chr(code) for code in range(33, 127)] + ["\u2581", "\n"]
    seed.train_from_iterator(["\u2581Yes", "\u2581No"] * 50, BpeTrainer(vocab_size=120, initial_alphabet=characters))
    made = json.loads(seed.to_str())["model"]
    names = ["<|endoftext|>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *made["vocab"]]
    vocabulary = {name: place for place, name in enumerate(names)}
    merges = [tuple(merge) for merge in made["merges"]]
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens(["<|endoftext|>", "<unk>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def published(name: str) -> str:
    """A chat template that TRL ships."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()


def text_config(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """Settings of a small language model for this tokenizer."""
    return (
        SIZES | {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id} | settings
    )


def sight(image_size: int, patch_size: int) -> dict[str, Any]:
    """Settings of a small vision tower."""
    return {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": image_size, "patch_size": patch_size,
    }  # fmt: skip
