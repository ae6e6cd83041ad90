"""The next token of every answer of a batch, as the requests want it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.constraints import forbid
from finetune_assets.server.generation.requests import GenerationRequest
from finetune_assets.server.generation.sampling import TokenLogprob, choose, log_probabilities
from finetune_assets.server.generation.tokens import TokenTexts
from finetune_assets.server.model.network import Network

_SCORED_AT_ONCE = 64
"""Places of a text whose logits are in memory together."""
_BAN, _IMPOSSIBLE = -100, float("-inf")


@dataclass(frozen=True, slots=True)
class NextToken:
    """A chosen token."""

    id: int
    logprob: TokenLogprob | None
    """Where the request asks for it."""


class NextTokens:
    """Chooses over one model's vocabulary.

    Ids without a token are never chosen, nor told among the likeliest. They keep their share of the probability, as in
    what transformers computes: log-probabilities are the model's own.
    """

    def __init__(self, network: Network) -> None:
        self._texts = TokenTexts(network.tokenizer)
        self._nameless = network.nameless

    def choose(self, answers: list[Answer], logits: Tensor) -> list[NextToken | None]:
        """Choose from `logits` `[answers, vocabulary]`; None where they are not finite or leave no token."""
        adjusted = self._adjusted(answers, logits)
        usable = (logits.sum(-1).isfinite() & (adjusted.amax(-1) > _IMPOSSIBLE)).tolist()
        if not all(usable):
            adjusted = adjusted.nan_to_num()
        requests = [answer.request for answer in answers]
        draws = [answer.draw() if answer.request.temperature else 0.0 for answer in answers]
        tokens = choose(adjusted, [r.temperature for r in requests], [r.top_p for r in requests], draws)
        logprobs = self._logprobs(requests, logits, tokens)
        return [NextToken(token, logprobs.get(row)) if usable[row] else None for row, token in enumerate(tokens)]

    def scores(self, ids: list[int], logits: Callable[[int, int], Tensor], n_top: int) -> list[TokenLogprob]:
        """Say how probable each token of a text was after those before it; of the first, nothing is known.

        Args:
            ids: of the text's tokens, [s].
            logits: of the tokens after the places from one up to another, `[n, vocabulary]`.
            n_top: how many of the likeliest are told.
        """
        text, data = self._texts.of(ids[0])
        found = [TokenLogprob(text, 0.0, data, [])]
        for start in range(0, len(ids) - 1, _SCORED_AT_ONCE):
            chosen = ids[start + 1 : start + 1 + _SCORED_AT_ONCE]
            found += self._told(chosen, logits(start, start + len(chosen)), [n_top] * len(chosen))
        return found

    def _told(self, tokens: list[int], logits: Tensor, n_top: list[int]) -> list[TokenLogprob]:
        own, ids, values = log_probabilities(logits, tokens, min(max(n_top), logits.shape[-1]), self._nameless)
        found = []
        for place, token in enumerate(tokens):
            text, data = self._texts.of(token)
            likeliest = list(zip(ids[place], values[place], strict=True))[: n_top[place]]
            top = [(self._texts.of(token)[0], logprob, self._texts.of(token)[1]) for token, logprob in likeliest]
            found.append(TokenLogprob(text, own[place], data, top))
        return found

    def _adjusted(self, answers: list[Answer], logits: Tensor) -> Tensor:
        """Apply what requests say about which tokens they want: `logit_bias`, penalties and a schema."""
        changes = {row: change for row, answer in enumerate(answers) if (change := _change(answer))}
        matchers = [(row, answer.matcher) for row, answer in enumerate(answers) if answer.matcher is not None]
        if self._nameless is not None:
            logits = logits.index_fill(-1, self._nameless, _IMPOSSIBLE)
        elif changes or matchers:
            logits = logits.clone()
        for row, change in changes.items():
            ids = torch.tensor(list(change), device=logits.device)
            logits[row, ids] += torch.tensor(list(change.values()), device=logits.device)
        forbid(logits, matchers)
        return logits

    def _logprobs(
        self, requests: list[GenerationRequest], logits: Tensor, tokens: list[int]
    ) -> dict[int, TokenLogprob]:
        """By row, for the requests that ask."""
        asked = [row for row, request in enumerate(requests) if request.logprobs]
        if not asked:
            return {}
        told = self._told([tokens[row] for row in asked], logits[asked], [requests[row].top_logprobs for row in asked])
        return dict(zip(asked, told, strict=True))


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
