"""Models that see, of families whose processors ask for torchvision where they are not a variant of another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_assets_tests.server.families import templates
from finetune_assets_tests.server.families.building import CHATML, make_tokenizer, sight, text_config

_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1,
}  # fmt: skip
_YARN = {
    "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 256,
    "llama_4_scaling_beta": 0.1, "partial_rotary_factor": 1.0,
}  # fmt: skip
_PIXTRAL = ("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<s>", "</s>")


def mistral3(text: dict[str, Any]) -> Callable[[Path, Path], Any]:
    """Mistral Small 3.1 and later, Ministral 3, Mistral 4: Pixtral's tower, of whose patches four become one."""

    def build(folder: Path, target: Path) -> Any:
        from transformers import Mistral3Config, Mistral3ForConditionalGeneration

        tokenizer = make_tokenizer(folder, _PIXTRAL, templates.PIXTRAL)
        tokenizer.save_pretrained(target)
        size = {"longest_edge": 64}
        write(target, "preprocessor_config", image_processor_type="PixtralImageProcessor", size=size,
              patch_size={"height": 8, "width": 8})  # fmt: skip
        write(target, "processor_config", processor_class="PixtralProcessor", patch_size=8, spatial_merge_size=2,
              image_token="[IMG]")  # fmt: skip
        tower = sight(64, 8) | {"model_type": "pixtral", "head_dim": 16}
        config = Mistral3Config(
            vision_config=tower, text_config=text_config(tokenizer, **text), spatial_merge_size=2,
            image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        )  # fmt: skip
        return Mistral3ForConditionalGeneration(config)

    return build


def aya_vision(folder: Path, target: Path) -> Any:
    """Aya Vision: SigLIP's tower before Cohere 2."""
    from transformers import AyaVisionConfig, AyaVisionForConditionalGeneration

    tokens = ("<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL",
              *(f"TILE_{place}" for place in range(1, 13)))  # fmt: skip
    tokenizer = make_tokenizer(folder, (*tokens, *_COHERE), _COHERE_SEEING)
    tokenizer.save_pretrained(target)
    write(target, "preprocessor_config", image_processor_type="GotOcr2ImageProcessor", crop_to_patches=True,
          max_patches=4, size={"height": 32, "width": 32})  # fmt: skip
    write(target, "processor_config", processor_class="AyaVisionProcessor", patch_size=8, img_size=32,
          downsample_factor=2)  # fmt: skip
    tower = sight(32, 8) | {"model_type": "siglip_vision_model", "vision_use_head": False}
    text = text_config(tokenizer, model_type="cohere2", sliding_window=64)
    image = tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>")
    return AyaVisionForConditionalGeneration(
        AyaVisionConfig(vision_config=tower, text_config=text, image_token_index=image)
    )


def cohere2_vision(folder: Path, target: Path) -> Any:
    """Command A Vision."""
    from transformers import Cohere2VisionConfig, Cohere2VisionForConditionalGeneration

    named = {"image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>",
             "img_line_break_token": "<|IMG_LINE_BREAK|>"}  # fmt: skip
    tokenizer = make_tokenizer(folder, (*named.values(), *_COHERE), _COHERE_SEEING.replace("<image>", "<|IMG_PATCH|>"),
                               named=named)  # fmt: skip
    tokenizer.save_pretrained(target)
    write(target, "preprocessor_config", image_processor_type="Cohere2VisionImageProcessor", max_patches=4,
          size={"height": 32, "width": 32}, patch_size=2, downsample_factor=2)  # fmt: skip
    write(target, "processor_config", processor_class="Cohere2VisionProcessor")
    tower = sight(32, 8) | {"model_type": "siglip_vision_model", "vision_use_head": False}
    text = text_config(tokenizer, model_type="cohere2", sliding_window=64)
    image = tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>")
    return Cohere2VisionForConditionalGeneration(
        Cohere2VisionConfig(vision_config=tower, text_config=text, image_token_id=image,
                            alignment_intermediate_size=64)
    )  # fmt: skip


def lfm2_vl(folder: Path, target: Path) -> Any:
    """LFM2-VL: SigLIP 2 before a model of convolutions and attention."""
    from transformers import Lfm2VlConfig, Lfm2VlForConditionalGeneration

    tokens = ("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", "<|startoftext|>")
    tokenizer = make_tokenizer(folder, (*tokens, *CHATML), "lfm2_2_5_vl")
    tokenizer.save_pretrained(target)
    write(target, "preprocessor_config", image_processor_type="Lfm2VlImageProcessor", min_image_tokens=4,
          max_image_tokens=16, encoder_patch_size=8, tile_size=64, do_image_splitting=False,
          size={"height": 64, "width": 64})  # fmt: skip
    write(target, "processor_config", processor_class="Lfm2VlProcessor")
    tower = sight(64, 8) | {"model_type": "siglip2_vision_model", "num_patches": 64, "vision_use_head": False}
    text = text_config(tokenizer, model_type="lfm2", layer_types=["conv", "full_attention"],
                       block_auto_adjust_ff_dim=False)  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("<image>")
    return Lfm2VlForConditionalGeneration(
        Lfm2VlConfig(vision_config=tower, text_config=text, image_token_id=image, projector_hidden_size=32)
    )


def llama4(folder: Path, target: Path) -> Any:
    """Llama 4 Scout and Maverick."""
    from transformers import Llama4Config, Llama4ForConditionalGeneration

    tokens = ("<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>",
              "<|tile_y_separator|>", "<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>")  # fmt: skip
    tokenizer = make_tokenizer(folder, tokens, templates.LLAMA_4)
    tokenizer.save_pretrained(target)
    write(target, "preprocessor_config", image_processor_type="Llama4ImageProcessor", max_patches=4,
          size={"height": 32, "width": 32})  # fmt: skip
    write(target, "processor_config", processor_class="Llama4Processor", patch_size=8, pixel_shuffle_ratio=0.5)
    names = ("boi_token_index", "eoi_token_index", "image_token_index")
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids([*tokens[1:4]]), strict=True))
    tower = sight(32, 8) | {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32,
                            "intermediate_size": 128}  # fmt: skip
    text = text_config(
        tokenizer, num_local_experts=4, num_experts_per_tok=1, intermediate_size_mlp=64, attention_chunk_size=64,
        layer_types=["chunked_attention", "full_attention"], bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    return Llama4ForConditionalGeneration(Llama4Config(vision_config=tower, text_config=text, **ids))


def kimi_k25(folder: Path, target: Path) -> Any:
    """Kimi K2.5 and later."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    tokens = ("<|media_begin|>", "<|media_content|>", "<|media_end|>", "<|media_pad|>", "<|video|>")
    tokenizer = make_tokenizer(folder, (*tokens, *CHATML), templates.KIMI)
    tokenizer.save_pretrained(target)
    write(target, "preprocessor_config", image_processor_type="Kimi_K25ImageProcessor", patch_size=8,
          size={"max_height": 64, "max_width": 64}, max_patches=64)  # fmt: skip
    write(target, "processor_config", processor_class="Kimi_K25Processor")
    write(target, "video_preprocessor_config", video_processor_type="Kimi_K25VideoProcessor")
    text = text_config(tokenizer, model_type="deepseek_v3", **_LATENT | _EXPERTS)
    config = AutoConfig.for_model("kimi_k25", text_config=text, vision_config=sight(64, 8),
                                  image_token_id=tokenizer.convert_tokens_to_ids("<|media_pad|>"),
                                  projection_hidden_size=32)  # fmt: skip
    return AutoModelForImageTextToText.from_config(config)


def write(target: Path, name: str, **settings: Any) -> None:
    """Write a file of settings beside the weights."""
    target.mkdir(exist_ok=True)
    (target / f"{name}.json").write_text(json.dumps(settings))


_COHERE = ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<BOS_TOKEN>",
           "<|END_OF_TURN_TOKEN|>")  # fmt: skip
_COHERE_SEEING = (
    "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>{% if m['role'] == 'user' %}<|USER_TOKEN|>"
    "{% elif m['role'] == 'assistant' %}<|CHATBOT_TOKEN|>{% else %}<|SYSTEM_TOKEN|>{% endif %}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% endif %}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
NEWER: dict[str, Callable[[Path, Path], Any]] = {
    "Mistral Small 3.1": mistral3({"model_type": "mistral"}),
    "Ministral 3": mistral3({"model_type": "ministral3", "rope_parameters": _YARN}),
    "Mistral 4": mistral3({"model_type": "mistral4", **_LATENT, **_EXPERTS, "rope_parameters": _YARN}),
    "Aya Vision": aya_vision,
    "Command A Vision": cohere2_vision,
    "LFM2-VL": lfm2_vl,
    "Llama 4": llama4,
    "Kimi K2.5": kimi_k25,
}  # fmt: skip
