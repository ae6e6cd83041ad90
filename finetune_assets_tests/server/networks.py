"""Tiny networks of every kind the server can take apart, and pictures to show them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from finetune_assets.server.base_models import VISION_MODEL, BaseModel
from finetune_assets.server.devices import PRECISION, Precision
from finetune_assets.server.model.chat_encoding import ImageSource, Sequence, encode_conversation
from finetune_assets.server.model.network import Network
from finetune_assets_tests.tiny_models import write_text_model

PARTS_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Contents are lists of parts, as the templates of published image models want them."""


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Models that are loaded meanwhile have this precision, whatever this machine is faster with."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(PRECISION, precision)
        yield


def text_base(folder: Path, seed: int = 0) -> BaseModel:
    """A causal language model from a local folder."""
    return BaseModel("tiny-text", str(write_text_model(folder / f"text-{seed}", seed)), vision=False)


def bundled_vision_base(folder: Path) -> BaseModel:
    """The bundled vision tower and projector before a tiny language model."""
    return BaseModel(VISION_MODEL, str(write_text_model(folder / "language")), vision=True)


def hub_vision_base(folder: Path) -> BaseModel:
    """A Hugging Face image-text-to-text model (LLaVA over CLIP) with random weights, saved as published ones are.

    Its weights are always the same: with some draws, pictures move the answers too little to be seen in them.
    """
    import torch
    from transformers import AutoTokenizer, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.processing_llava import LlavaProcessor

    language = write_text_model(folder / "language")
    tokenizer = AutoTokenizer.from_pretrained(language)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    text = LlamaConfig.from_pretrained(language)
    text.vocab_size = len(tokenizer)
    sight = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=30, patch_size=15
    )
    config = LlavaConfig(vision_config=sight, text_config=text, image_seq_length=4)
    config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    side = {"height": 30, "width": 30}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size=side, crop_size=side), tokenizer, patch_size=15, num_additional_image_tokens=1,
        vision_feature_select_strategy="default", chat_template=PARTS_TEMPLATE, image_token="<image>",
    )  # fmt: skip
    target = folder / "llava"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlavaForConditionalGeneration(config).save_pretrained(target)
    processor.save_pretrained(target)
    return BaseModel("tiny-llava", str(target), vision=True)


def encode_example(
    network: Network, messages: list[dict[str, Any]], features: ImageSource, tools: list[dict[str, Any]] | None = None
) -> Sequence:
    """A conversation whose template keeps earlier turns as they are."""
    (sequence,) = encode_conversation(network, messages, features, tools)
    return sequence


def picture(color: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, color)


def data_url(image: Image.Image) -> str:
    """The picture as a client sends it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def chat(question: str, answer: str | None = None, image: Image.Image | None = None) -> list[dict[str, Any]]:
    """Messages of one question, with its picture and answer where given."""
    content: Any = question
    if image is not None:
        url = {"type": "image_url", "image_url": {"url": data_url(image)}}
        content = [{"type": "text", "text": question}, url]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]
