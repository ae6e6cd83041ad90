"""Choosing the next token of each sequence of a batch, and saying how probable it was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GREEDY = 1e-4
"""Below it, dividing by the temperature overflows, and the draw is certain anyway."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token and its natural-log probability under the model, before temperature and `top_p`."""

    token: str
    logprob: float
    bytes: bytes
    top: list[tuple[str, float, bytes]]
    """The most probable tokens at this place, likeliest first."""


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """One token id from `logits` `[vocabulary]`: the likeliest at temperature 0, else a draw from the nucleus."""
    if temperature < _GREEDY:
        return int(logits.argmax())
    probabilities, order = torch.softmax(logits / temperature, dim=-1).sort(descending=True)
    outside = probabilities.cumsum(-1) - probabilities >= top_p
    outside[0] = False  # top_p 0 still leaves the likeliest token
    drawn = torch.multinomial(probabilities.masked_fill(outside, 0.0).cpu(), 1, generator=generator)
    return int(order[int(drawn)])
