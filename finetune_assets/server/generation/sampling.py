"""Choosing the next token of every row of a batch at once, and saying how probable it was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GREEDY = 1e-4
"""Below it, dividing by the temperature overflows, and the draw is certain anyway."""
_NUCLEUS = 256
"""Most nuclei are smaller; finding so many likeliest tokens is much faster than sorting a vocabulary."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token and its natural-log probability under the model.

    That is the model's own distribution, as at OpenAI: before `logit_bias`, penalties, a schema, temperature and
    `top_p`. So a token that those brought forward may not be among `top`.
    """

    token: str
    logprob: float
    bytes: bytes
    top: list[tuple[str, float, bytes]]
    """The most probable tokens at this place, likeliest first."""


def choose(logits: Tensor, temperature: list[float], top_p: list[float], draws: list[float]) -> list[int]:
    """One token id for each row of `logits` `[n, vocabulary]`.

    It is the likeliest at temperature 0, else the one whose share of the nucleus (the fewest likeliest tokens that
    together have the probability `top_p`) holds the row's number of `draws`, uniform in [0, 1).
    """
    tokens = logits.argmax(-1)
    wide = [r for r, t in enumerate(temperature) if t >= GREEDY and top_p[r] >= 1]
    narrow = [r for r, t in enumerate(temperature) if t >= GREEDY and top_p[r] < 1]
    for rows, pick in ((wide, _from_all), (narrow, _from_nucleus)):
        if rows:
            place = torch.tensor(rows, device=logits.device)
            heat, share, draw = (
                torch.tensor([values[r] for r in rows], device=logits.device)[:, None]
                for values in (temperature, top_p, draws)
            )
            tokens[place] = pick((logits[place] / heat).softmax(-1), share, draw)
    return tokens.tolist()


def log_probabilities(
    logits: Tensor, chosen: list[int], n_top: int, nameless: Tensor | None = None
) -> tuple[list[float], list[list[int]], list[list[float]]]:
    """Of each row of `logits`: the chosen token's log-probability, the `n_top` likeliest tokens, and theirs.

    Ids that are `nameless` have their share of the probability, and are none of the likeliest.
    """
    logprobs = logits.log_softmax(-1)
    told = logprobs if nameless is None else logprobs.index_fill(-1, nameless, float("-inf"))
    values, ids = told.topk(n_top)
    own = logprobs.gather(1, torch.tensor(chosen, device=logits.device)[:, None])[:, 0]
    return own.tolist(), ids.tolist(), values.tolist()


def _from_all(probabilities: Tensor, _top_p: Tensor, draw: Tensor) -> Tensor:
    reached = probabilities.double().cumsum(-1)
    return _first_beyond(reached, draw)


def _from_nucleus(probabilities: Tensor, top_p: Tensor, draw: Tensor) -> Tensor:
    k = min(_NUCLEUS, probabilities.shape[-1])
    likely, order = probabilities.topk(k)
    if bool((likely.sum(-1, keepdim=True) < top_p).any()):
        likely, order = probabilities.sort(descending=True)
    outside = likely.cumsum(-1) - likely >= top_p
    outside[:, 0] = False  # top_p 0 still leaves the likeliest token
    reached = likely.masked_fill(outside, 0.0).double().cumsum(-1)
    return order.gather(1, _first_beyond(reached, draw)[:, None])[:, 0]


def _first_beyond(reached: Tensor, draw: Tensor) -> Tensor:
    """Where the cumulative probability first exceeds the drawn share; never at a token of probability 0."""
    total = reached[:, -1:]
    aim = torch.minimum(draw.double() * total, total * (1 - 1e-12))
    return torch.searchsorted(reached, aim, right=True)[:, 0]
