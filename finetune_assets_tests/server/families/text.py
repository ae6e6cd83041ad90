"""Text models of many families, with the chat templates that are published for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_assets.server.base_models import BaseModel
from finetune_assets_tests.server.families import templates
from finetune_assets_tests.server.families.building import CHATML, GEMMA, LINEAR, SIZES, make_tokenizer, save
from finetune_assets_tests.tiny_models import CHAT_TEMPLATE

_THINKING = ("<think>", "</think>", *CHATML)
_LLAMA = ("<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>", "<|eom_id|>", "<|python_tag|>", "<|eot_id|>")
_COHERE = (
    "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>",
    "<|END_RESPONSE|>", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>",
)  # fmt: skip
_DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")  # noqa: RUF001
_GLM = (
    "<|user|>", "<|assistant|>", "<|system|>", "[gMASK]", "<sop>", "<think>", "</think>", "/nothink", "<|endoftext|>",
)  # fmt: skip
_PHI = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
_GEMMA_4 = ("<|turn>", "<eos>", "<bos>", "<|channel>", "<channel|>", "<|think|>", "<turn|>")
_SMALL_GEMMA_4 = {"sliding_window": 16, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 512}
_MISTRAL = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
            "<s>", "</s>")  # fmt: skip
_GPT_OSS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|constrain|>", "<|return|>")
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_SHARED_EXPERTS = _EXPERTS | {
    "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
_LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}  # fmt: skip
_LONG = {
    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
_MAMBA_3 = {
    "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 16, "mamba_d_conv": 4,
}  # fmt: skip
_GRANITE = ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>", "<|end_of_text|>")


@dataclass(frozen=True)
class Family:
    """What a text model is made of."""

    kind: str
    """transformers' `model_type`."""
    template: str
    """A chat template, or the name of one that TRL ships."""
    tokens: tuple[str, ...] = CHATML
    """Control tokens; the last one ends an answer."""
    settings: dict[str, Any] = field(default_factory=dict)
    taken_apart: bool = True
    """Whether its parts give what the whole gives."""
    pieces: bool = False
    """Whether its tokenizer is like SentencePiece's."""
    unfit: str = ""
    """Why it cannot be fine-tuned."""


TEXT = {
    "Llama 2": Family("llama", templates.LLAMA_2, ("<s>", "</s>"), pieces=True),
    "Llama 3": Family("llama", "llama3", _LLAMA),
    "Llama 3.1": Family("llama", "llama3_1", _LLAMA, {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}),
    "Llama 3.2": Family("llama", "llama3_2", _LLAMA, {"tie_word_embeddings": True}),
    "Qwen2": Family("qwen2", CHAT_TEMPLATE),
    "Qwen2.5": Family("qwen2", "qwen2_5"),
    "Qwen3": Family("qwen3", "qwen3", _THINKING),
    "Qwen3 2507": Family("qwen3", "qwen3_instruct_2507", _THINKING),
    "Qwen3 MoE": Family("qwen3_moe", "qwen3", _THINKING, _EXPERTS | {"num_experts": 4}),
    "Qwen3-Next": Family(
        "qwen3_next", "qwen3_instruct_2507", _THINKING,
        LINEAR | _EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 32}, taken_apart=False,
    ),
    "Qwen3.5": Family("qwen3_5_text", "qwen3_5_nothink", _THINKING, LINEAR, taken_apart=False),
    "Qwen3.5 thinking": Family("qwen3_5_text", "qwen3_5_think", _THINKING, LINEAR, taken_apart=False),
    "Qwen3.6": Family("qwen3_5_text", "qwen3_6", _THINKING, LINEAR, taken_apart=False),
    "Qwen3.8": Family("qwen3_5_text", "qwen3_8", _THINKING, LINEAR, taken_apart=False),
    "Mistral": Family("mistral", templates.MISTRAL_1, _MISTRAL, {"sliding_window": 16}),
    "Mistral v1": Family("mistral", templates.MISTRAL_1, ("<s>", "</s>"), {"sliding_window": 16}, pieces=True),
    "Mistral v3": Family("mistral", templates.MISTRAL_3, _MISTRAL, pieces=True),
    "Mistral Small": Family("mistral", templates.MISTRAL_SMALL, _MISTRAL),
    "Ministral 3": Family("ministral3", templates.MISTRAL_SMALL, _MISTRAL, {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 256,
        "llama_4_scaling_beta": 0.1}}),
    "Mixtral": Family(
        "mixtral", templates.MISTRAL_1, ("<s>", "</s>"), {"num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "Gemma": Family("gemma", "gemma", GEMMA),
    "Gemma with pieces": Family("gemma", "gemma", GEMMA, pieces=True),
    "Gemma 2": Family("gemma2", "gemma", GEMMA, {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "Gemma 3": Family("gemma3_text", "gemma3", GEMMA, {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "Gemma 4": Family("gemma4_text", "gemma4", _GEMMA_4, _SMALL_GEMMA_4),
    "Gemma 4, newest template": Family("gemma4_text", "gemma4_v5", _GEMMA_4, _SMALL_GEMMA_4),
    "Phi-3": Family("phi3", "phi3", _PHI),
    "Phi-3 with pieces": Family("phi3", "phi3", _PHI, pieces=True),
    "Phi-3.5": Family("phi3", "phi3_5", _PHI),
    "Phi-3 with LongRoPE": Family(
        "phi3", "phi3", _PHI,
        {"original_max_position_embeddings": 64, "rope_parameters": _LONG}, taken_apart=False,
    ),
    "Phi-4": Family("phi3", templates.PHI_4, ("<|im_start|>", "<|im_sep|>", "<|im_end|>")),
    "Granite": Family("granite", templates.GRANITE, _GRANITE, {
        "logits_scaling": 8.0, "embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.2}),
    "Granite 4 hybrid": Family(
        "granitemoehybrid", templates.GRANITE, _GRANITE,
        _MAMBA | {"layer_types": ["mamba", "attention"], "num_local_experts": 4, "num_experts_per_tok": 2,
                  "shared_intermediate_size": 32, "mamba_expand": 2, "logits_scaling": 6.0},
        taken_apart=False,
    ),
    "Cohere": Family("cohere", "cohere", _COHERE, {"logit_scale": 0.0625}),
    "Cohere 2": Family("cohere2", "cohere2", _COHERE, {"logit_scale": 0.0625, "sliding_window": 16}),
    "gpt-oss": Family(
        "gpt_oss", "gptoss", _GPT_OSS, {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16}
    ),
    "OLMo": Family("olmo", templates.OLMO, ("<|user|>", "<|assistant|>", "<|endoftext|>")),
    "OLMo 2": Family("olmo2", templates.OLMO, ("<|user|>", "<|assistant|>", "<|endoftext|>")),
    "OLMo 3": Family("olmo3", CHAT_TEMPLATE, CHATML, {"sliding_window": 16}),
    "SmolLM3": Family("smollm3", templates.SMOLLM_3, _THINKING),
    "GLM-4": Family("glm4", templates.GLM, _GLM, {"partial_rotary_factor": 0.5}),
    "GLM-4 MoE": Family("glm4_moe", "glm4moe", _GLM, _SHARED_EXPERTS | {"partial_rotary_factor": 0.5}),
    "GLM-4.7 Flash": Family("glm4_moe_lite", "glm4moe", _GLM, _SHARED_EXPERTS | _LATENT),
    "DeepSeek-V2": Family("deepseek_v2", "deepseekv3", _DEEPSEEK, _SHARED_EXPERTS | _LATENT),
    "DeepSeek-V3": Family("deepseek_v3", "deepseekv3", _DEEPSEEK, _SHARED_EXPERTS | _LATENT),
    "DeepSeek-R1": Family("qwen2", "deepseek_r1_distill", ("<think>", "</think>", *_DEEPSEEK)),
    "Falcon-H1": Family(
        "falcon_h1", CHAT_TEMPLATE, CHATML,
        _MAMBA | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_expand": 1}, taken_apart=False,
    ),
    "LFM2": Family(
        "lfm2", "lfm2_v2", ("<|startoftext|>", *CHATML),
        {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}, taken_apart=False,
    ),
    "EXAONE 4": Family("exaone4", CHAT_TEMPLATE, CHATML, {"sliding_window": 16, "sliding_window_pattern": 2}),
    "Seed-OSS": Family("seed_oss", CHAT_TEMPLATE),
    "Ernie 4.5": Family("ernie4_5", CHAT_TEMPLATE),
    "Hunyuan": Family("hunyuan_v1_dense", CHAT_TEMPLATE),
    "MiniMax M2": Family(
        "minimax_m2", CHAT_TEMPLATE, CHATML, {"num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "Llama 4": Family(
        "llama4_text", CHAT_TEMPLATE, CHATML,
        {"num_local_experts": 4, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 64,
         "attention_chunk_size": 16, "layer_types": ["chunked_attention", "full_attention"]}, taken_apart=False,
    ),
    "Nemotron": Family("nemotron", CHAT_TEMPLATE),
    "Nemotron 3": Family(
        "nemotron_h", "nemotron_3_nano", _THINKING,
        _MAMBA_3 | {"layers_block_type": ["mamba", "attention", "mlp"], "num_hidden_layers": 3}, taken_apart=False,
    ),
    "Gemma 3n": Family(
        "gemma3n_text", "gemma3", GEMMA,
        {"sliding_window": 16, "hidden_size_per_layer_input": 8, "laurel_rank": 4, "num_kv_shared_layers": 0,
         "layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.0, 0.0]},
    ),
    "Apertus": Family("apertus", CHAT_TEMPLATE),
    "Arcee": Family("arcee", CHAT_TEMPLATE),
    "Trinity": Family(
        "afmoe", CHAT_TEMPLATE, CHATML,
        _EXPERTS | {"num_experts": 4, "num_shared_experts": 1, "num_dense_layers": 1, "n_group": 1, "topk_group": 1,
                    "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}, taken_apart=False,
    ),
    "Bamba": Family(
        "bamba", CHAT_TEMPLATE, CHATML, _MAMBA | {"attn_layer_indices": [1], "mamba_expand": 2}, taken_apart=False
    ),
    "Jamba": Family(
        "jamba", CHAT_TEMPLATE, CHATML,
        {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
         "num_experts": 4, "num_experts_per_tok": 2, "mamba_d_state": 8, "use_mamba_kernels": False}, taken_apart=False,
    ),
    "Command A MoE": Family(
        "cohere2_moe", "cohere", _COHERE, {"num_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16}

    ),
    "dots.llm1": Family("dots1", CHAT_TEMPLATE, CHATML, _SHARED_EXPERTS),
    "Ernie 4.5 MoE": Family(
        "ernie4_5_moe", CHAT_TEMPLATE, CHATML,
        {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1, "moe_intermediate_size": 32}, taken_apart=False,
    ),
    "K-EXAONE": Family(
        "exaone_moe", CHAT_TEMPLATE, CHATML,
        _EXPERTS | {"num_experts": 4, "num_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
                    "topk_group": 1, "sliding_window": 16, "sliding_window_pattern": 2},
    ),
    "GLM-4 9B": Family("glm", templates.GLM, _GLM, {"partial_rotary_factor": 0.5}),
    "Granite 3 MoE": Family(
        "granitemoe", templates.GRANITE, _GRANITE,
        {"num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 6.0},
    ),
    "Granite with windows": Family(
        "granite_swa", templates.GRANITE, _GRANITE, {"logits_scaling": 6.0, "sliding_window": 16}
    ),
    "Helium": Family("helium", CHAT_TEMPLATE),
    "Hunyuan MoE": Family(
        "hunyuan_v1_moe", CHAT_TEMPLATE, CHATML, {"num_experts": 4, "moe_topk": 2}, taken_apart=False
    ),
    "InternLM3": Family("internlm3", CHAT_TEMPLATE),
    "LFM2 MoE": Family(
        "lfm2_moe", "lfm2_v2", ("<|startoftext|>", *CHATML),
        _EXPERTS | {"layer_types": ["conv", "full_attention"], "num_experts": 4, "num_dense_layers": 1},
        taken_apart=False,
    ),
    "OLMoE": Family("olmoe", templates.OLMO, ("<|user|>", "<|assistant|>", "<|endoftext|>"),
                    {"num_experts": 4, "num_experts_per_tok": 2}),
    "OLMo Hybrid": Family("olmo_hybrid", CHAT_TEMPLATE, CHATML, LINEAR, taken_apart=False),
    "Phi-3.5 MoE": Family(
        "phimoe", "phi3_5", _PHI, {"num_local_experts": 4, "num_experts_per_tok": 2}, taken_apart=False
    ),
    "Qwen1.5 MoE": Family(
        "qwen2_moe", CHAT_TEMPLATE, CHATML, _EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 32},
        taken_apart=False,
    ),
    "Qwen3.6 MoE": Family(
        "qwen3_5_moe_text", "qwen3_6", _THINKING,
        LINEAR | _EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 32}, taken_apart=False,
    ),
    "Solar Open": Family("solar_open", CHAT_TEMPLATE, CHATML, _SHARED_EXPERTS),
    "StarCoder2": Family("starcoder2", CHAT_TEMPLATE),
    "StableLM": Family("stablelm", CHAT_TEMPLATE),
    "MiniMax": Family(
        "minimax", CHAT_TEMPLATE, CHATML,
        {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["linear_attention", "full_attention"]},
        taken_apart=False,
    ),
    "DeepSeek-V3.2": Family(
        "deepseek_v32", "deepseekv3", _DEEPSEEK,
        _SHARED_EXPERTS | _LATENT | {"index_head_dim": 16, "index_n_heads": 2, "index_topk": 512}, taken_apart=False,
    ),
    "GLM-5": Family(
        "glm_moe_dsa", "glm4moe", _GLM,
        _SHARED_EXPERTS | _LATENT | {"index_head_dim": 16, "index_n_heads": 2, "index_topk": 512}, taken_apart=False,
    ),
    "Kimi K2": Family("deepseek_v3", CHAT_TEMPLATE, CHATML, _SHARED_EXPERTS | _LATENT),
    "Kimi Linear": Family(
        "kimi_linear", CHAT_TEMPLATE, CHATML,
        _EXPERTS | _LATENT | {"num_experts": 4, "q_lora_rank": None, "linear_head_dim": 8, "linear_num_heads": 4,
                              "layer_types": ["linear_attention", "full_attention"]}, taken_apart=False,
    ),
    "LongCat Flash": Family(
        "longcat_flash", CHAT_TEMPLATE, CHATML,
        _LATENT | {"num_layers": 2, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 32, "moe_topk": 2,
                   "n_routed_experts": 4, "zero_expert_num": 2},
    ),
    "LFM3": Family(
        "lfm3", CHAT_TEMPLATE, CHATML,
        {"layer_types": ["conv", "full_attention", "sliding_attention"], "num_hidden_layers": 3, "sliding_window": 16},
        taken_apart=False,
    ),
    "Jais 2": Family("jais2", CHAT_TEMPLATE),
    "MiniCPM3": Family("minicpm3", CHAT_TEMPLATE, CHATML, _LATENT),
    "Mamba": Family(
        "mamba", CHAT_TEMPLATE, CHATML, {"state_size": 8, "time_step_rank": 4}, taken_apart=False,
        unfit=r"it cannot be fine-tuned \(ValueError: .*out_proj",
    ),
    "Mamba 2": Family(
        "mamba2", CHAT_TEMPLATE, CHATML,
        {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 16}, taken_apart=False,
        unfit=r"it cannot be fine-tuned \(ValueError: .*out_proj",
    ),
    "Falcon Mamba": Family(
        "falcon_mamba", CHAT_TEMPLATE, CHATML, {"state_size": 8, "time_step_rank": 4}, taken_apart=False,
        unfit=r"it cannot be fine-tuned \(ValueError: .*out_proj",
    ),
    "Zamba 2": Family(
        "zamba2", CHAT_TEMPLATE, CHATML,
        {"num_hidden_layers": 3, "num_key_value_heads": 4, "mamba_d_state": 8, "n_mamba_heads": 4, "mamba_ngroups": 1,
         "chunk_size": 16, "layers_block_type": ["mamba", "hybrid", "mamba"], "num_mem_blocks": 1}, taken_apart=False,
        unfit="it cannot be fine-tuned",
    ),
    "RWKV": Family("rwkv", CHAT_TEMPLATE, CHATML, {"attention_hidden_size": 32}, taken_apart=False),
    "Inkling 2": Family(
        "inkling2_text", CHAT_TEMPLATE, CHATML,
        _EXPERTS | {"n_routed_experts": 4, "layer_types": ["hybrid_sliding", "hybrid"]}, taken_apart=False,
        unfit="what it has learned is something else when it is loaded by PEFT",
    ),
}  # fmt: skip


def text_model(name: str, folder: Path) -> BaseModel:
    """Write a model of the family."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    family, target = TEXT[name], folder / "model"
    tokenizer = make_tokenizer(folder, family.tokens, family.template, pieces=family.pieces)
    tokenizer.save_pretrained(target)
    settings = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id} | family.settings
    config = AutoConfig.for_model(family.kind, **SIZES | settings, eos_token_id=tokenizer.eos_token_id)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(AutoModelForCausalLM.from_config(config), target)
    return BaseModel(name, str(target), vision=False)
