"""A model as one file for llama.cpp and what is built on it: weights in float32, vocabulary and chat template.

Written are families whose layers the `gguf` package names and whose peculiarities are known here, with tokenizers whose
way to cut texts llama.cpp knows by name. Everything else would be read as something that it is not, and is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from finetune_assets.errors import ExportError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from torch import Tensor

_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""By transformers' `model_type`."""
_CUT_AS = ("llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o")
"""Names that llama.cpp has for ways to cut a text before it is encoded."""
_REMEDY = "export it with --merged, and convert that by llama.cpp's own convert_hf_to_gguf.py"


def check(config: Any, tokenizer: Any, name: str) -> None:
    """See whether a model can be written.

    Raises:
        ExportError: with the reason and what to do instead.
    """
    _cut_as(tokenizer, name)
    if config.model_type not in _ARCHITECTURES:
        _refuse(name, f"it is of the kind {config.model_type!r}, and {', '.join(_ARCHITECTURES)} are written")
    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") not in ("default", "llama3"):
        _refuse(name, f"its positions ({rope['rope_type']}) are not written")
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window and window < config.max_position_embeddings:
        _refuse(name, "it sees a window of what was said, which is not written")


def write(model: Any, tokenizer: Any, file: Path, name: str) -> None:
    """Write a merged model.

    Args:
        model: as transformers load it, in float32.
        tokenizer: with its chat template.
        file: where; its folder is there.
        name: of the model.

    Raises:
        ExportError: as `check`.
    """
    from gguf import GGUFWriter

    check(model.config, tokenizer, name)
    writer = GGUFWriter(file, _ARCHITECTURES[model.config.model_type])
    writer.add_name(name)
    _add_settings(writer, model.config)
    _add_tokenizer(writer, model.config, tokenizer, name)
    for tensor_name, tensor in _tensors(model):
        writer.add_tensor(tensor_name, tensor.detach().float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_settings(writer: GGUFWriter, config: Any) -> None:
    head = _head_dim(config)
    writer.add_file_type(0)  # all in float32
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: GGUFWriter, config: Any, tokenizer: Any, name: str) -> None:
    import json

    from gguf import TokenType

    added = tokenizer.added_tokens_decoder
    by_id = {place: token for token, place in tokenizer.get_vocab().items()}
    tokens, types = [], []
    for place in range(config.vocab_size):
        tokens.append(by_id.get(place, f"[UNUSED{place}]"))
        special = place in added and added[place].special
        kind = TokenType.CONTROL if special else TokenType.USER_DEFINED if place in added else TokenType.NORMAL
        types.append(kind if place in by_id else TokenType.UNUSED)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_cut_as(tokenizer, name))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_add_bos_token(tokenizer("a").input_ids[0] == tokenizer.bos_token_id is not None)
    for role in ("bos", "eos", "pad"):
        if (token := getattr(tokenizer, f"{role}_token_id")) is not None:
            getattr(writer, f"add_{role}_token_id")(token)
    writer.add_chat_template(tokenizer.chat_template)


def _cut_as(tokenizer: Any, name: str) -> str:
    """What llama.cpp calls the way in which a tokenizer cuts texts."""
    import json

    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    told = json.loads(tokenizer.backend_tokenizer.to_str())
    if told["model"]["type"] != "BPE" or (told["pre_tokenizer"] or {}).get("type") not in ("ByteLevel", "Sequence"):
        _refuse(name, "its tokenizer is not of bytes, as GPT-2's is")
    steps = told["pre_tokenizer"].get("pretokenizers", [told["pre_tokenizer"]])
    byte_level = steps[-1]
    if byte_level["type"] == "ByteLevel" and not byte_level["add_prefix_space"]:
        if len(steps) == 1 and byte_level["use_regex"]:
            return "gpt-2"
        if len(steps) == 2 and steps[0] == {"type": "Digits", "individual_digits": True} and byte_level["use_regex"]:
            return "smollm"
        for known in _CUT_AS if len(steps) == 2 and not byte_level["use_regex"] else ():
            if steps[0].get("pattern") == {"Regex": GGUF_PRE_TOKENIZER_SPLITS[known]}:
                return known
    return _refuse(name, "its tokenizer cuts texts in a way that has no name in llama.cpp")


def _tensors(model: Any) -> list[tuple[str, Tensor]]:
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    config = model.config
    kinds = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    kind: MODEL_ARCH = kinds[_ARCHITECTURES[config.model_type]]
    names = get_tensor_name_map(kind, config.num_hidden_layers)
    found: list[tuple[str, Tensor]] = []
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            _refuse(config.model_type, f"its {name} has no name in llama.cpp")
        if kind == MODEL_ARCH.LLAMA and ("q_proj" in name or "k_proj" in name):
            tensor = _interleaved(tensor, _head_dim(config))
        found.append((known, tensor))
    if (config.rope_parameters or {}).get("rope_type") == "llama3":
        found.append(("rope_freqs.weight", _rope_factors(config)))
    return found


def _interleaved(tensor: Tensor, head: int) -> Tensor:
    """Rows of each head so that those which turn together lie beside each other; transformers have halves."""
    return tensor.view(-1, 2, head // 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _rope_factors(config: Any) -> Tensor:
    """By what each frequency is divided, `[head / 2]`: that of plain positions over that of Llama 3.1's."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    head = _head_dim(config)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = config.rope_parameters["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float32) / head)
    return plain / scaled


def _head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _refuse(name: str, why: str) -> NoReturn:
    raise ExportError(f"{name!r} cannot be written as GGUF: {why}; {_REMEDY}")
