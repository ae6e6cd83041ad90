"""Models that see, of many families, with the processors and chat templates that are published for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_assets.server.base_models import BaseModel
from finetune_assets_tests.server.families import templates
from finetune_assets_tests.server.families.building import (
    CHATML,
    GEMMA,
    LINEAR,
    make_tokenizer,
    published,
    save,
    sight,
    text_config,
)
from finetune_assets_tests.server.families.newer_images import NEWER


def image_model(name: str, folder: Path) -> BaseModel:
    """Write a model of the family."""
    import torch

    target = folder / "model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(IMAGES[name](folder, target), target)
    return BaseModel(name, str(target), vision=True)


def _qwen_vl(kind: str, template: str, size: int, sight: dict[str, Any], **rope: Any) -> Callable[[Path, Path], Any]:
    def build(folder: Path, target: Path) -> Any:
        from transformers import AutoConfig, AutoModelForImageTextToText
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        tokens = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", *CHATML)
        tokenizer = make_tokenizer(folder, tokens, template)
        ids = dict(zip(("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"),
                       tokenizer.convert_tokens_to_ids(list(tokens[:4])), strict=True))  # fmt: skip
        positions = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0} | rope
        sides: dict[str, Any] = {"min_pixels": (4 * size) ** 2, "max_pixels": (8 * size) ** 2}
        # As published: its class is named in a file, and the videos' half has a file of its own.
        tokenizer.save_pretrained(target)
        Qwen2VLImageProcessorPil(**sides, patch_size=size).save_pretrained(target)
        processor = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL"}.get(kind, "Qwen3VL")
        (target / "processor_config.json").write_text(json.dumps({"processor_class": f"{processor}Processor"}))
        videos = {
            "video_processor_type": "Qwen2VLVideoProcessor" if kind.startswith("qwen2") else "Qwen3VLVideoProcessor"
        }
        (target / "video_preprocessor_config.json").write_text(json.dumps(videos))
        text = text_config(tokenizer, rope_parameters=positions) | (LINEAR if kind.startswith("qwen3_5") else {})
        if kind.endswith("_moe"):
            text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                     "shared_expert_intermediate_size": 32}  # fmt: skip
        config = AutoConfig.for_model(kind, text_config=text, vision_config=sight | {"patch_size": size}, **ids)
        return AutoModelForImageTextToText.from_config(config)

    return build


def _idefics(kind: str) -> Callable[[Path, Path], Any]:
    def build(folder: Path, target: Path) -> Any:
        from transformers import AutoConfig, AutoModelForImageTextToText
        from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

        places = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
        tokens = ("<image>", "<fake_token_around_image>", "<global-img>", "<video>", *places, "<end_of_utterance>")
        tokenizer = make_tokenizer(folder, tokens, kind)
        tokenizer.save_pretrained(target)
        sides: dict[str, Any] = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
        Idefics3ImageProcessorPil(**sides).save_pretrained(target)
        settings = json.loads((target / "preprocessor_config.json").read_text())
        settings["video_sampling"] = {"max_frames": 4, "fps": 1, "video_size": {"longest_edge": 32}}
        (target / "preprocessor_config.json").write_text(json.dumps(settings))
        processor = {"smolvlm": "SmolVLMProcessor", "idefics3": "Idefics3Processor"}[kind]
        (target / "processor_config.json").write_text(json.dumps({"processor_class": processor, "image_seq_len": 4}))
        config = AutoConfig.for_model(
            kind, text_config=text_config(tokenizer, model_type="llama"), vision_config=sight(32, 8), scale_factor=2,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"), pad_token_id=0,
        )  # fmt: skip
        return AutoModelForImageTextToText.from_config(config)

    return build


def _gemma3(folder: Path, target: Path) -> Any:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = make_tokenizer(folder, (*names.values(), *GEMMA[:2], "<bos>", "<eos>"), "gemma3", named=names)
    images = Gemma3ImageProcessorPil(size={"height": 64, "width": 64})
    Gemma3Processor(
        images, tokenizer, chat_template=published("gemma3"), image_seq_length=16
    ).save_pretrained(target)  # fmt: skip
    boi, eoi, image, end, eos = tokenizer.convert_tokens_to_ids([*names.values(), "<end_of_turn>", "<eos>"])
    text = text_config(tokenizer, query_pre_attn_scalar=8, sliding_window=64)
    ends: dict[str, Any] = {"eos_token_id": [eos, end]}
    config = Gemma3Config(
        text_config=text, vision_config=sight(64, 8), mm_tokens_per_image=16, boi_token_index=boi,
        eoi_token_index=eoi, image_token_index=image, **ends,
    )  # fmt: skip
    return Gemma3ForConditionalGeneration(config)


def _llava(folder: Path, target: Path) -> Any:
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.processing_llava import LlavaProcessor

    tokenizer = make_tokenizer(folder, ("<image>", "<s>", "</s>"), "llava_next")
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images, tokenizer, patch_size=8, num_additional_image_tokens=1, vision_feature_select_strategy="default",
        chat_template=published("llava_next"), image_token="<image>",
    ).save_pretrained(target)  # fmt: skip
    text = text_config(tokenizer, model_type="llama")
    tower = sight(32, 8) | {"model_type": "clip_vision_model"}
    image = tokenizer.convert_tokens_to_ids("<image>")
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=tower, text_config=text, image_token_index=image, image_seq_length=16)
    )


def _pixtral(folder: Path, target: Path) -> Any:
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    tokenizer = make_tokenizer(
        folder, ("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<s>", "</s>"), templates.PIXTRAL
    )
    tokenizer.save_pretrained(target)
    PixtralImageProcessorPil(
        size={"longest_edge": 64}, patch_size={"height": 16, "width": 16}
    ).save_pretrained(target)  # fmt: skip
    processor = {"processor_class": "PixtralProcessor", "patch_size": 16, "image_token": "[IMG]"}
    (target / "processor_config.json").write_text(json.dumps(processor))
    sight = {"model_type": "pixtral", "image_size": 64, "patch_size": 16, "hidden_size": 32, "intermediate_size": 64,
             "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}  # fmt: skip
    config = LlavaConfig(
        vision_config=sight, text_config=text_config(tokenizer, model_type="mistral"),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"), vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


def _llava_next(folder: Path, target: Path) -> Any:
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

    grid = [[32, 64], [64, 32], [64, 64]]
    tokenizer = make_tokenizer(folder, ("<image>", "<s>", "</s>"), "llava_next")
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=grid
    )
    LlavaNextProcessor(
        images, tokenizer, patch_size=8, num_additional_image_tokens=1, vision_feature_select_strategy="default",
        chat_template=published("llava_next"), image_token="<image>",
    ).save_pretrained(target)  # fmt: skip
    return LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            vision_config=sight(32, 8) | {"model_type": "clip_vision_model"},
            text_config=text_config(tokenizer, model_type="mistral"),
            image_seq_length=16,
            image_grid_pinpoints=grid,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )


def _llava_onevision(folder: Path, target: Path) -> Any:
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    grid = [[32, 32], [32, 64], [64, 32], [64, 64]]
    tokenizer = make_tokenizer(folder, ("<image>", "<video>", *CHATML), templates.LLAVA_ONEVISION)
    tokenizer.save_pretrained(target)
    LlavaOnevisionImageProcessorPil(size={"height": 32, "width": 32}, image_grid_pinpoints=grid).save_pretrained(target)
    _write(target, "processor_config", processor_class="LlavaOnevisionProcessor", num_image_tokens=16,
           vision_feature_select_strategy="full", image_token="<image>", video_token="<video>")  # fmt: skip
    _write(target, "video_preprocessor_config", video_processor_type="LlavaOnevisionVideoProcessor")
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    return LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=sight(32, 8) | {"model_type": "siglip_vision_model", "vision_use_head": False},
            text_config=text_config(tokenizer, model_type="qwen2"),
            image_grid_pinpoints=grid,
            image_token_index=image,
            video_token_index=video,
        )
    )


def _internvl(folder: Path, target: Path) -> Any:
    from transformers import InternVLConfig, InternVLForConditionalGeneration
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    tokenizer = make_tokenizer(folder, (*named.values(), *CHATML), templates.INTERNVL, named=named)
    tokenizer.save_pretrained(target)
    GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False).save_pretrained(target)
    _write(target, "processor_config", processor_class="InternVLProcessor", image_seq_length=4)
    _write(target, "video_preprocessor_config", video_processor_type="InternVLVideoProcessor")
    return InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=sight(32, 8) | {"image_size": [32, 32], "patch_size": [8, 8]},
            text_config=text_config(tokenizer, model_type="qwen2"),
            image_seq_length=4,
            downsample_ratio=0.5,
            image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        )
    )


def _paligemma(template: str | None) -> Callable[[Path, Path], Any]:
    def build(folder: Path, target: Path) -> Any:
        from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration
        from transformers.models.paligemma.processing_paligemma import PaliGemmaProcessor
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        tokenizer = make_tokenizer(folder, ("<image>", "<bos>", "<eos>"), template)
        images: Any = SiglipImageProcessorPil(size={"height": 32, "width": 32})
        images.image_seq_length = 16
        PaliGemmaProcessor(images, tokenizer, chat_template=template).save_pretrained(target)
        text = text_config(tokenizer, model_type="gemma") | {"vocab_size": len(tokenizer)}
        return PaliGemmaForConditionalGeneration(
            PaliGemmaConfig(
                vision_config=sight(32, 8)
                | {"model_type": "siglip_vision_model", "vision_use_head": False, "projection_dim": 32},
                text_config=text,
                projection_dim=32,
                image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            )
        )

    return build


def _mllama(folder: Path, target: Path) -> Any:
    from transformers import MllamaConfig, MllamaForConditionalGeneration
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
    from transformers.models.mllama.processing_mllama import MllamaProcessor

    tokens = ("<|begin_of_text|>", "<|python_tag|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer = make_tokenizer(folder, (*tokens, "<|eot_id|>"), templates.MLLAMA)
    text = text_config(tokenizer, bos_token_id=tokenizer.bos_token_id, num_hidden_layers=3, cross_attention_layers=[1])
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    tokenizer.add_tokens(["<|image|>"], special_tokens=True)  # the vocabulary's head knows no image
    images = MllamaImageProcessorPil(size={"height": 32, "width": 32}, max_image_tiles=2)
    MllamaProcessor(images, tokenizer, chat_template=templates.MLLAMA).save_pretrained(target)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1,
             "attention_heads": 2, "image_size": 32, "patch_size": 8, "max_num_tiles": 2, "vision_output_dim": 64,
             "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]}  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    return MllamaForConditionalGeneration(MllamaConfig(vision_config=tower, text_config=text, image_token_index=image))


def _idefics2(folder: Path, target: Path) -> Any:
    from transformers import Idefics2Config, Idefics2ForConditionalGeneration
    from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
    from transformers.models.idefics2.processing_idefics2 import Idefics2Processor

    tokens = ("<fake_token_around_image>", "<image>", "<s>", "</s>", "<end_of_utterance>")
    tokenizer = make_tokenizer(folder, tokens, templates.IDEFICS_2)
    images = Idefics2ImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64}, do_image_splitting=False)
    Idefics2Processor(
        images, tokenizer, image_seq_len=4, chat_template=templates.IDEFICS_2
    ).save_pretrained(target)  # fmt: skip
    seeing = {"hidden_size": 32, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
              "resampler_head_dim": 16, "num_key_value_heads": 1}  # fmt: skip
    return Idefics2ForConditionalGeneration(
        Idefics2Config(
            vision_config=sight(64, 8),
            text_config=text_config(tokenizer, model_type="mistral"),
            perceiver_config=seeing,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )


def _gemma4(folder: Path, target: Path) -> Any:
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    named = {"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "audio_token": "<|audio|>",
             "boa_token": "<|audio>", "eoa_token": "<audio|>"}  # fmt: skip
    tokens = ("<|video|>", "<|turn>", "<|channel>", "<channel|>", "<|think|>", "<bos>", "<eos>", "<turn|>")
    tokenizer = make_tokenizer(folder, (*named.values(), *tokens), "gemma4", named=named)
    tokenizer.save_pretrained(target)
    sides: dict[str, Any] = {"patch_size": 8, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    Gemma4ImageProcessorPil(**sides).save_pretrained(target)
    _write(target, "processor_config", processor_class="Gemma4Processor", image_seq_length=70)
    _write(target, "video_preprocessor_config", video_processor_type="Gemma4VideoProcessor")
    ids = dict(
        zip((f"{name}_id" for name in named), tokenizer.convert_tokens_to_ids(list(named.values())), strict=True)
    )
    tower = sight(32, 8) | {"head_dim": 16, "num_key_value_heads": 2, "pooling_kernel_size": 2,
                            "position_embedding_size": 64}  # fmt: skip
    text = text_config(tokenizer, sliding_window=64, global_head_dim=8, hidden_size_per_layer_input=8,
                       vocab_size_per_layer_input=len(tokenizer), bos_token_id=tokenizer.bos_token_id)  # fmt: skip
    ends: dict[str, Any] = {"eos_token_id": tokenizer.convert_tokens_to_ids(["<eos>", "<turn|>"])}
    return Gemma4ForConditionalGeneration(Gemma4Config(text_config=text, vision_config=tower, **ids, **ends))


def _glm_4v(kind: str) -> Callable[[Path, Path], Any]:
    def build(folder: Path, target: Path) -> Any:
        from transformers import AutoConfig, AutoModelForImageTextToText

        tokens = ("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>",
                  "<|end_of_video|>")  # fmt: skip
        names = ("image_token_id", "video_token_id", "image_start_token_id", "image_end_token_id",
                 "video_start_token_id", "video_end_token_id")  # fmt: skip
        every = (*tokens, "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<think>", "</think>")
        tokenizer = make_tokenizer(folder, (*every, "<|end|>"), templates.GLM_4V)
        tokenizer.save_pretrained(target)
        family = "Glm46V" if kind == "glm46v" else "Glm4v"
        sides = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
        _write(target, "preprocessor_config", image_processor_type=f"{family}ImageProcessor", size=sides)
        _write(target, "processor_config", processor_class=f"{family}Processor")
        _write(target, "video_preprocessor_config", video_processor_type=f"{family}VideoProcessor")
        rope = {"rope_type": "default", "mrope_section": [1, 0, 1], "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
        tower = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
                 "image_size": 56, "patch_size": 14}  # fmt: skip
        ids = dict(zip(names, tokenizer.convert_tokens_to_ids(list(tokens)), strict=True))
        experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        text = text_config(tokenizer, rope_parameters=rope) | (experts if kind == "glm4v_moe" else {})
        config = AutoConfig.for_model(kind, text_config=text, vision_config=tower, **ids)
        return AutoModelForImageTextToText.from_config(config)

    return build


def _write(target: Path, name: str, **settings: Any) -> None:
    (target / f"{name}.json").write_text(json.dumps(settings))


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
    "LLaVA-NeXT": _llava_next,
    "LLaVA-OneVision": _llava_onevision,
    "InternVL": _internvl,
    "Llama 3.2 Vision": _mllama,
    "Idefics2": _idefics2,
    "Gemma 4": _gemma4,
    "GLM-4V": _glm_4v("glm4v"),
    "Qwen3.5": _qwen_vl(
        "qwen3_5", "qwen3_5_nothink", 16,
        {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
         "num_position_embeddings": 64}, mrope_interleaved=True,
    ),
    "PaliGemma": _paligemma(None),
    "PaliGemma with a template": _paligemma(templates.PALIGEMMA),
    "Qwen3-VL MoE": _qwen_vl(
        "qwen3_vl_moe", "qwen3_vl", 16,
        {"depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
         "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}, mrope_interleaved=True,
    ),
    "Qwen3.6 MoE": _qwen_vl(
        "qwen3_5_moe", "qwen3_6", 16,
        {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
         "num_position_embeddings": 64}, mrope_interleaved=True,
    ),
    "GLM-4.5V": _glm_4v("glm4v_moe"),
    "GLM-4.6V": _glm_4v("glm46v"),
    **NEWER,
}  # fmt: skip
