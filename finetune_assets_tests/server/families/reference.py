"""What a model says by transformers' and PEFT's own code, over the inputs that its own processor makes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
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
        return self._template.prompt(self._plain(messages))

    def takes(self, messages: list[dict[str, Any]], *said: str) -> bool:
        """Whether the makers' template writes a conversation, and everything that was said in it."""
        try:
            written = self._front.renderer.apply_chat_template(
                self._plain(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception:  # noqa: BLE001 - a template raises what it likes
            return False
        return all(text in written for text in said)

    @cached_property
    def signs(self) -> list[int]:
        """Ids of tokens that are no text by themselves: control tokens, and bytes that are parts of characters."""
        tokenizer, known = self._front.tokenizer, len(self._model.get_output_embeddings().weight)
        added = tokenizer.added_tokens_decoder
        usual = [token for token in sorted(tokenizer.get_vocab().values()) if token < known]
        return [token for token in usual if token in added or not tokenizer.decode([token]).isascii()]

    @torch.no_grad()
    def greedy(self, prompt: str, shown: Sequence[str], n: int) -> list[float]:
        """Log-probabilities of the n likeliest tokens of text in turn, by transformers' own `generate`."""
        written = self._model.generate(
            **self._inputs(prompt, shown), max_new_tokens=n, min_new_tokens=n, do_sample=False,
            suppress_tokens=self.signs, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        logprobs = torch.cat(written.logits).float().log_softmax(-1)
        return logprobs.gather(1, written.sequences[0, -n:, None])[:, 0].tolist()

    @torch.no_grad()
    def likeliest(self, prompt: str, shown: Sequence[str]) -> list[float]:
        """Log-probabilities of the five likeliest tokens after a prompt, with pictures of these colours."""
        logits = self._model(**self._inputs(prompt, shown)).logits[0, -1]
        return logits.float().log_softmax(-1).topk(5).values.tolist()

    @torch.no_grad()
    def options(self, prompt: str, options: Sequence[str], shown: Sequence[str]) -> list[float]:
        """Of each option the sum of the log-probabilities of its tokens, from one forward over prompt and option."""
        lead, _ = self._template.around()
        start, found = self._inputs(prompt, shown)["input_ids"][0].tolist(), []
        for option in options:
            inputs = self._inputs(prompt + lead + option, shown)
            ids = inputs["input_ids"][0].tolist()
            assert ids[: len(start)] == start, "tokens span the border of the prompt"
            logits = self._model(**inputs).logits[0].double().log_softmax(-1)
            found.append(sum(float(logits[place - 1, ids[place]]) for place in range(len(start), len(ids))))
        return found

    def _plain(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        plain: list[dict[str, Any]] = []
        for message in messages:
            content: Any = content_parts(message["content"])
            parts = [{"type": "image"} if part["type"] == "image_url" else part for part in content]
            plain.append({"role": message["role"], "content": parts if self._front.processor else content[0]["text"]})
        return plain

    def _inputs(self, text: str, shown: Sequence[str]) -> dict[str, Any]:
        processor, tokenizer = self._front.processor, self._front.tokenizer
        if processor is None:
            return dict(tokenizer(text, return_tensors="pt", add_special_tokens=False))
        bos = tokenizer.bos_token
        how = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        images = [picture(colour) for colour in shown] or None
        made = processor(text=[text], images=images, return_tensors="pt", **how)
        return dict(made.to(torch.float32))  # some make images in bfloat16
