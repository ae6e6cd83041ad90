"""Tiny models of many families, of random weights, saved as published ones are: real configurations and templates.

The templates are those that TRL ships for its own tests, where there is one of the family.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_assets.server.base_models import BaseModel
from finetune_assets_tests.tiny_models import CHAT_TEMPLATE, write_text_model

_SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096, "pad_token_id": 0,
}  # fmt: skip
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
_GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_PIXTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{% if m['content'] is string %}"
    "{{ m['content'] }}{% else %}{% for part in m['content'] %}{% if part['type'] == 'image' %}[IMG]{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}[/INST]{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
_CHATML = ("<|im_start|>", "<|im_end|>")
_GEMMA = ("<start_of_turn>", "<end_of_turn>", "<eos>", "<bos>")
_COHERE = (
    "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>",
    "<|END_RESPONSE|>", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>",
)  # fmt: skip
_DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")  # noqa: RUF001
_GLM_TOKENS = ("<|user|>", "<|assistant|>", "<|system|>", "[gMASK]", "<sop>", "<think>", "</think>", "/nothink")
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_SHARED_EXPERTS = _EXPERTS | {
    "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
_LONG = {
    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """What a text model is made of."""

    kind: str
    """transformers' `model_type`."""
    template: str
    """A chat template, or the name of one that TRL ships."""
    tokens: tuple[str, ...] = _CHATML
    """Control tokens; the last one ends an answer."""
    settings: dict[str, Any] = field(default_factory=dict)
    taken_apart: bool = True
    """Whether its parts give what the whole gives."""


TEXT = {
    "Llama 3": Family(
        "llama", "llama3", ("<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>", "<|eot_id|>")
    ),
    "Qwen2.5": Family("qwen2", "qwen2_5"),
    "Qwen3": Family("qwen3", "qwen3", ("<think>", "</think>", *_CHATML)),
    "Qwen3 MoE": Family("qwen3_moe", "qwen3", ("<think>", "</think>", *_CHATML), _EXPERTS | {"num_experts": 4}),
    "Qwen3.5": Family(
        "qwen3_5_text", "qwen3_5_nothink", ("<think>", "</think>", *_CHATML),
        {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
         "layer_types": ["linear_attention", "full_attention"]}, taken_apart=False,
    ),
    "Mistral": Family("mistral", _MISTRAL, ("[INST]", "[/INST]", "<s>", "</s>"), {"sliding_window": 16}),
    "Gemma": Family("gemma", "gemma", _GEMMA),
    "Gemma 2": Family("gemma2", "gemma", _GEMMA, {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "Gemma 3": Family("gemma3_text", "gemma3", _GEMMA, {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "Gemma 4": Family(
        "gemma4_text", "gemma4", ("<|turn>", "<eos>", "<bos>", "<|channel>", "<channel|>", "<|think|>", "<turn|>"),
        {"sliding_window": 16},
    ),
    "Phi-3": Family("phi3", "phi3", ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")),
    "Phi-3 with LongRoPE": Family(
        "phi3", "phi3", ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        {"original_max_position_embeddings": 64, "rope_parameters": _LONG}, taken_apart=False,
    ),
    "Granite": Family("granite", CHAT_TEMPLATE, _CHATML, {"logits_scaling": 8.0, "embedding_multiplier": 12.0}),
    "Cohere": Family("cohere", "cohere", _COHERE, {"logit_scale": 0.0625}),
    "Cohere 2": Family("cohere2", "cohere2", _COHERE, {"logit_scale": 0.0625, "sliding_window": 16}),
    "gpt-oss": Family(
        "gpt_oss", "gptoss",
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|constrain|>", "<|return|>"),
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
    ),
    "OLMo 2": Family("olmo2", CHAT_TEMPLATE),
    "SmolLM3": Family("smollm3", CHAT_TEMPLATE),
    "GLM-4": Family("glm4", _GLM, (*_GLM_TOKENS, "<|endoftext|>"), {"partial_rotary_factor": 0.5}),
    "GLM-4 MoE": Family(
        "glm4_moe", "glm4moe", (*_GLM_TOKENS, "<|endoftext|>"), _SHARED_EXPERTS | {"partial_rotary_factor": 0.5}
    ),
    "DeepSeek-V3": Family(
        "deepseek_v3", "deepseekv3", _DEEPSEEK,
        _SHARED_EXPERTS | {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
                           "qk_rope_head_dim": 8, "v_head_dim": 8},
    ),
    "DeepSeek-R1": Family("qwen2", "deepseek_r1_distill", ("<think>", "</think>", *_DEEPSEEK)),
    "Falcon-H1": Family(
        "falcon_h1", CHAT_TEMPLATE, _CHATML,
        {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1,
         "mamba_chunk_size": 16, "mamba_expand": 1}, taken_apart=False,
    ),
}  # fmt: skip


def text_model(name: str, folder: Path) -> BaseModel:
    """Write a model of the family."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    family, target = TEXT[name], folder / "model"
    tokenizer = _tokenizer(folder, family.tokens, family.template)
    tokenizer.save_pretrained(target)
    settings = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id} | family.settings
    config = AutoConfig.for_model(family.kind, **_SIZES | settings, eos_token_id=tokenizer.eos_token_id)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _save(AutoModelForCausalLM.from_config(config), target)
    return BaseModel(name, str(target), vision=False)


def image_model(name: str, folder: Path) -> BaseModel:
    """Write a model of the family."""
    import torch

    target = folder / "model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _save(IMAGES[name](folder, target), target)
    return BaseModel(name, str(target), vision=True)


def _save(model: Any, target: Path) -> None:
    """Weights of the size that trained ones have: with those that transformers draws, all tokens are as likely."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=weight.shape[-1] ** -0.5)
    model.float().eval().save_pretrained(target)


def _tokenizer(folder: Path, tokens: tuple[str, ...], template: str, **named: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(write_text_model(folder / "tokenizer"))
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.eos_token = tokens[-1]
    begins = [
        token for token in tokens if token.strip("<|>").lower().replace("_token", "") in ("s", "bos", "begin_of_text")
    ]
    tokenizer.bos_token = begins[0] if begins else None
    tokenizer.chat_template = template if "{%" in template else published(template)
    for name, token in named.items():
        tokenizer.init_kwargs[name] = token
    if named:
        tokenizer._set_model_specific_special_tokens(named)
    return tokenizer


def published(name: str) -> str:
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()


def _text_config(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    return (
        _SIZES | {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id} | settings
    )


def _qwen_vl(kind: str, template: str, size: int, sight: dict[str, Any], **rope: Any) -> Callable[[Path, Path], Any]:
    def build(folder: Path, target: Path) -> Any:
        from transformers import AutoConfig, AutoModelForImageTextToText
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        tokens = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", *_CHATML)
        tokenizer = _tokenizer(folder, tokens, template)
        ids = dict(zip(("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"),
                       tokenizer.convert_tokens_to_ids(list(tokens[:4])), strict=True))  # fmt: skip
        positions = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0} | rope
        sides: dict[str, Any] = {"min_pixels": (4 * size) ** 2, "max_pixels": (8 * size) ** 2}
        # As published: its class is named in a file, and the videos' half has a file of its own.
        tokenizer.save_pretrained(target)
        Qwen2VLImageProcessorPil(**sides, patch_size=size).save_pretrained(target)
        processor = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
        (target / "processor_config.json").write_text(json.dumps({"processor_class": f"{processor}Processor"}))
        videos = {"video_processor_type": "Qwen3VLVideoProcessor" if kind == "qwen3_vl" else "Qwen2VLVideoProcessor"}
        (target / "video_preprocessor_config.json").write_text(json.dumps(videos))
        text = _text_config(tokenizer, rope_parameters=positions)
        config = AutoConfig.for_model(kind, text_config=text, vision_config=sight | {"patch_size": size}, **ids)
        return AutoModelForImageTextToText.from_config(config)

    return build


def _idefics(kind: str) -> Callable[[Path, Path], Any]:
    def build(folder: Path, target: Path) -> Any:
        from transformers import AutoConfig, AutoModelForImageTextToText
        from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

        places = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
        tokens = ("<image>", "<fake_token_around_image>", "<global-img>", "<video>", *places, "<end_of_utterance>")
        tokenizer = _tokenizer(folder, tokens, kind)
        tokenizer.save_pretrained(target)
        sides: dict[str, Any] = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
        Idefics3ImageProcessorPil(**sides).save_pretrained(target)
        settings = json.loads((target / "preprocessor_config.json").read_text())
        settings["video_sampling"] = {"max_frames": 4, "fps": 1, "video_size": {"longest_edge": 32}}
        (target / "preprocessor_config.json").write_text(json.dumps(settings))
        processor = {"smolvlm": "SmolVLMProcessor", "idefics3": "Idefics3Processor"}[kind]
        (target / "processor_config.json").write_text(json.dumps({"processor_class": processor, "image_seq_len": 4}))
        config = AutoConfig.for_model(
            kind, text_config=_text_config(tokenizer, model_type="llama"), vision_config=_sight(32, 8), scale_factor=2,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"), pad_token_id=0,
        )  # fmt: skip
        return AutoModelForImageTextToText.from_config(config)

    return build


def _gemma3(folder: Path, target: Path) -> Any:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer(folder, (*names.values(), *_GEMMA[:2], "<bos>", "<eos>"), "gemma3", **names)
    images = Gemma3ImageProcessorPil(size={"height": 64, "width": 64})
    Gemma3Processor(
        images, tokenizer, chat_template=published("gemma3"), image_seq_length=16
    ).save_pretrained(target)  # fmt: skip
    boi, eoi, image, end, eos = tokenizer.convert_tokens_to_ids([*names.values(), "<end_of_turn>", "<eos>"])
    text = _text_config(tokenizer, query_pre_attn_scalar=8, sliding_window=64)
    ends: dict[str, Any] = {"eos_token_id": [eos, end]}
    config = Gemma3Config(
        text_config=text, vision_config=_sight(64, 8), mm_tokens_per_image=16, boi_token_index=boi,
        eoi_token_index=eoi, image_token_index=image, **ends,
    )  # fmt: skip
    return Gemma3ForConditionalGeneration(config)


def _llava(folder: Path, target: Path) -> Any:
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.processing_llava import LlavaProcessor

    tokenizer = _tokenizer(folder, ("<image>", "<s>", "</s>"), "llava_next")
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images, tokenizer, patch_size=8, num_additional_image_tokens=1, vision_feature_select_strategy="default",
        chat_template=published("llava_next"), image_token="<image>",
    ).save_pretrained(target)  # fmt: skip
    text = _text_config(tokenizer, model_type="llama")
    sight = _sight(32, 8) | {"model_type": "clip_vision_model"}
    image = tokenizer.convert_tokens_to_ids("<image>")
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=sight, text_config=text, image_token_index=image, image_seq_length=16)
    )


def _pixtral(folder: Path, target: Path) -> Any:
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    tokenizer = _tokenizer(folder, ("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<s>", "</s>"), _PIXTRAL)
    tokenizer.save_pretrained(target)
    PixtralImageProcessorPil(
        size={"longest_edge": 64}, patch_size={"height": 16, "width": 16}
    ).save_pretrained(target)  # fmt: skip
    processor = {"processor_class": "PixtralProcessor", "patch_size": 16, "image_token": "[IMG]"}
    (target / "processor_config.json").write_text(json.dumps(processor))
    sight = {"model_type": "pixtral", "image_size": 64, "patch_size": 16, "hidden_size": 32, "intermediate_size": 64,
             "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}  # fmt: skip
    config = LlavaConfig(
        vision_config=sight, text_config=_text_config(tokenizer, model_type="mistral"),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"), vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


def _sight(image_size: int, patch_size: int) -> dict[str, Any]:
    return {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": image_size, "patch_size": patch_size,
    }  # fmt: skip


IMAGES: dict[str, Callable[[Path, Path], Any]] = {
    "Qwen2-VL": _qwen_vl(
        "qwen2_vl", "qwen2_5_vl", 14, {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2}
    ),
    "Qwen2.5-VL": _qwen_vl(
        "qwen2_5_vl", "qwen2_5_vl", 14,
        {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
         "fullatt_block_indexes": [1], "window_size": 112},
    ),
    "Qwen3-VL": _qwen_vl(
        "qwen3_vl", "qwen3_vl", 16,
        {"depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
         "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}, mrope_interleaved=True,
    ),
    "SmolVLM": _idefics("smolvlm"),
    "Idefics3": _idefics("idefics3"),
    "LLaVA": _llava,
    "Gemma 3": _gemma3,
    "Pixtral": _pixtral,
}  # fmt: skip
