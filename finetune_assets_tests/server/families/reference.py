"""What a model says by transformers' and PEFT's own code, over the inputs that its own processor makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model.chat_template import ChatTemplate, content_parts
from finetune_assets.server.model.front import load_front
from finetune_assets_tests.server.networks import picture


class Reference:
    """A base model, and one fine-tuned from it where a PEFT folder is given."""

    def __init__(self, base: BaseModel, adapter: Path | None = None) -> None:
        import transformers
        from peft import PeftModel

        kind = transformers.AutoModelForImageTextToText if base.vision else transformers.AutoModelForCausalLM
        model: Any = kind.from_pretrained(base.path, dtype=torch.float32)
        self._model: Any = model if adapter is None else PeftModel.from_pretrained(model, str(adapter))
        self._model.eval()
        self._front = load_front(base)
        self._template = ChatTemplate.of(self._front.renderer, base.name, sees=base.vision)

    def prompt(self, messages: list[dict[str, Any]]) -> str:
        """A conversation in OpenAI's format as the model's own template writes it."""
        plain: list[dict[str, Any]] = []
        for message in messages:
            content: Any = content_parts(message["content"])
            parts = [{"type": "image"} if part["type"] == "image_url" else part for part in content]
            plain.append({"role": message["role"], "content": parts if self._front.processor else content[0]["text"]})
        return self._template.prompt(plain)

    @torch.no_grad()
    def likeliest(self, prompt: str, colour: str | None) -> list[float]:
        """Log-probabilities of the five likeliest tokens after a prompt."""
        logits = self._model(**self._inputs(prompt, colour)).logits[0, -1]
        return logits.float().log_softmax(-1).topk(5).values.tolist()

    @torch.no_grad()
    def options(self, prompt: str, options: Sequence[str], colour: str | None) -> list[float]:
        """Of each option the sum of the log-probabilities of its tokens, from one forward over prompt and option."""
        lead, _ = self._template.around()
        start, found = self._inputs(prompt, colour)["input_ids"][0].tolist(), []
        for option in options:
            inputs = self._inputs(prompt + lead + option, colour)
            ids = inputs["input_ids"][0].tolist()
            assert ids[: len(start)] == start, "tokens span the border of the prompt"
            logits = self._model(**inputs).logits[0].double().log_softmax(-1)
            found.append(sum(float(logits[place - 1, ids[place]]) for place in range(len(start), len(ids))))
        return found

    def _inputs(self, text: str, colour: str | None) -> dict[str, Any]:
        processor, tokenizer = self._front.processor, self._front.tokenizer
        if processor is None:
            return dict(tokenizer(text, return_tensors="pt", add_special_tokens=False))
        bos = tokenizer.bos_token
        how = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        images = [picture(colour)] if colour else None
        made = processor(text=[text], images=images, return_tensors="pt", **how)
        return dict(made.to(torch.float32))  # some make images in bfloat16
