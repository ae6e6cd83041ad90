"""One request on its way through the engine: its prompt, its answers, and whoever waits for them."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.lora import Adapter
from finetune_assets.server.generation.requests import Generation, GenerationRequest
from finetune_assets.server.generation.sampling import TokenLogprob
from finetune_assets.server.model.chat_encoding import IMAGE_SLOT, Sequence

BLOCK = 8
"""Tokens that the prefix cache keeps and finds together."""


@dataclass(eq=False)
class Completion:
    """A request whose prompt is encoded and whose adapter is in memory."""

    request: GenerationRequest
    future: Future[Generation]
    prompt: Sequence
    adapter: Adapter | None
    answers: list[Answer]
    block_keys: list[bytes]
    """Of each whole block of the prompt, but never of its last token, whose state the first answer token needs."""
    scores: list[TokenLogprob] | None = None
    """Of the prompt's tokens, once they are known; only where the request asks."""
    cached_tokens: int | None = None
    """How many tokens of the prompt were found in the prefix cache when it was first read; None before."""

    @property
    def over(self) -> bool:
        """Whether nobody waits any more: answered, failed or cancelled."""
        return self.future.done()

    @property
    def unscored(self) -> bool:
        """Whether the prompt's tokens have yet to be scored."""
        return self.request.scored and self.scores is None

    @property
    def growing(self) -> list[Answer]:
        """Answers that are not at their end."""
        return [answer for answer in self.answers if answer.finish_reason is None]

    def fail(self, error: BaseException) -> None:
        """Raise `error` where the answers are waited for."""
        if not self.over and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def settle(self) -> None:
        """Hand over the answers if they are all complete."""
        if self.over or self.unscored or any(answer.finish_reason is None for answer in self.answers):
            return
        made = sum(answer.n_tokens for answer in self.answers)
        choices = [answer.choice() for answer in self.answers]
        if self.future.set_running_or_notify_cancel():
            thought = sum(answer.n_thought for answer in self.answers)
            counts = (len(self.prompt.ids), made, self.cached_tokens or 0, thought)
            self.future.set_result(Generation(choices, *counts, self.scores or []))


def block_keys(prompt: Sequence, adapter: Adapter | None) -> list[bytes]:
    """A key for each block, which stands for all that the block's keys and values depend on.

    That is every token up to its end, the features of the images among them, and the adapter.
    """
    key = hashlib.sha256((adapter.key if adapter else "").encode()).digest()
    features = iter([hashlib.sha256(image.numpy().tobytes()).digest() for image in prompt.images])
    lengths = iter([len(image) for image in prompt.images])
    keys, left = [], 0
    for start in range(0, (len(prompt.ids) - 1) // BLOCK * BLOCK, BLOCK):
        ids = prompt.ids[start : start + BLOCK]
        digest = hashlib.sha256(key + np.array(ids, dtype=np.int64).tobytes())
        slots = ids.count(IMAGE_SLOT)
        while slots > left:
            digest.update(next(features))
            slots, left = slots - left, next(lengths)
        left -= slots
        key = digest.digest()
        keys.append(key)
    return keys
