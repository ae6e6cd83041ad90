"""How many tokens the longest example of a file has for a model, seen without its weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from finetune_assets.server.model.chat_encoding import encode_conversation
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.vision import GRID

Conversation = tuple[list[dict[str, Any]], list[dict[str, Any]] | None]
"""Messages and tools."""


def longest(network: Network, examples: Iterable[list[Conversation]]) -> int:
    """Tokens of the longest example, cut to the context; of a pair, those of its longer conversation twice.

    Raises:
        PromptError: the model cannot take one.
    """
    lengths = ([_length(network, *conversation) for conversation in example] for example in examples)
    return max((len(found) * max(found) for found in lengths), default=0)


def _length(network: Network, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> int:
    made = encode_conversation(network, messages, _Unseen(), tools)
    return min(max((len(sequence.ids) for sequence in made), default=0), network.max_length)


class _Unseen:
    """Stands for the features of images, of which only the number counts."""

    def of(self, data_url: str, /) -> Tensor:  # noqa: ARG002
        """As many slots as the bundled tower gives."""
        return torch.empty(GRID * GRID, 0)
