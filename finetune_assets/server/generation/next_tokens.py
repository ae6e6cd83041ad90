"""The next token of every answer of a batch, as the requests want it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.constraints import forbid
from finetune_assets.server.generation.requests import GenerationRequest
from finetune_assets.server.generation.sampling import TokenLogprob, choose, log_probabilities
from finetune_assets.server.generation.tokens import TokenTexts

_BAN, _IMPOSSIBLE = -100, float("-inf")


@dataclass(frozen=True, slots=True)
class NextToken:
    """A chosen token."""

    id: int
    logprob: TokenLogprob | None
    """Where the request asks for it."""


class NextTokens:
    """Chooses over one model's vocabulary."""

    def __init__(self, tokenizer: Any) -> None:
        self._texts = TokenTexts(tokenizer)

    def choose(self, answers: list[Answer], logits: Tensor) -> list[NextToken | None]:
        """Choose from `logits` `[answers, vocabulary]`; None where they are not finite or leave no token."""
        adjusted = _adjusted(answers, logits)
        usable = (logits.sum(-1).isfinite() & (adjusted.amax(-1) > _IMPOSSIBLE)).tolist()
        if not all(usable):
            adjusted = adjusted.nan_to_num()
        requests = [answer.request for answer in answers]
        draws = [answer.draw() if answer.request.temperature else 0.0 for answer in answers]
        tokens = choose(adjusted, [r.temperature for r in requests], [r.top_p for r in requests], draws)
        logprobs = self._logprobs(requests, logits, tokens)
        return [NextToken(token, logprobs.get(row)) if usable[row] else None for row, token in enumerate(tokens)]

    def _logprobs(
        self, requests: list[GenerationRequest], logits: Tensor, tokens: list[int]
    ) -> dict[int, TokenLogprob]:
        """By row, for the requests that ask."""
        asked = [row for row, request in enumerate(requests) if request.logprobs]
        if not asked:
            return {}
        n_top = min(max(requests[row].top_logprobs for row in asked), logits.shape[-1])
        own, ids, values = log_probabilities(logits[asked], [tokens[row] for row in asked], n_top)
        found = {}
        for place, row in enumerate(asked):
            text, data = self._texts.of(tokens[row])
            likeliest = list(zip(ids[place], values[place], strict=True))[: requests[row].top_logprobs]
            top = [(self._texts.of(token)[0], logprob, self._texts.of(token)[1]) for token, logprob in likeliest]
            found[row] = TokenLogprob(text, own[place], data, top)
        return found


def _adjusted(answers: list[Answer], logits: Tensor) -> Tensor:
    """Apply what requests say about which tokens they want: `logit_bias`, penalties and a schema."""
    changes = {row: change for row, answer in enumerate(answers) if (change := _change(answer))}
    matchers = [(row, answer.matcher) for row, answer in enumerate(answers) if answer.matcher is not None]
    if not changes and not matchers:
        return logits
    logits = logits.clone()
    for row, change in changes.items():
        ids = torch.tensor(list(change), device=logits.device)
        logits[row, ids] += torch.tensor(list(change.values()), device=logits.device)
    forbid(logits, matchers)
    return logits


def _change(answer: Answer) -> dict[int, float]:
    """What is added to the logits of which tokens.

    The penalties are OpenAI's: a token that the answer has c > 0 times loses c * frequency + presence.
    """
    request = answer.request
    change = {token: _IMPOSSIBLE if bias <= _BAN else bias for token, bias in request.logit_bias.items()}
    if request.presence_penalty or request.frequency_penalty:
        for token, count in answer.counts.items():
            change[token] = change.get(token, 0.0) - count * request.frequency_penalty - request.presence_penalty
    return change
