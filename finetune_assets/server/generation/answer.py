"""One answer in the making: which tokens it has, what of its text is certain, and when it ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

import torch

from finetune_assets.server.generation.requests import Delta, GeneratedChoice, GenerationRequest
from finetune_assets.server.generation.sampling import TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Callable

    from llguidance import LLMatcher

    from finetune_assets.server.generation.next_tokens import NextToken


class Spelling(Protocol):
    """The text of an answer's tokens, as they come."""

    def add(self, token: int, /) -> str:
        """Whole characters that the token completes."""
        ...

    def rest(self) -> str:
        """What stands for a character that was broken off."""
        ...


class Answer:
    """Grows by one token at a time and tells its listener about text as soon as it cannot change any more."""

    def __init__(
        self,
        request: GenerationRequest,
        index: int,
        limit: int,
        text: Spelling,
        matcher: LLMatcher | None = None,
        listen: Callable[[Delta], None] | None = None,
    ) -> None:
        self.request = request
        self.index = index
        self.matcher = matcher
        self.made: list[int] = []
        """All tokens so far; the end token is not one."""
        self.counts: Counter[int] = Counter()
        """How often each token occurs in `made`, for the penalties."""
        self.finish_reason: str | None = None
        self._stops = [stop for stop in request.stop if stop]
        self._limit = limit
        self._listen = listen
        self._generator = torch.Generator()
        self._generator.seed() if request.seed is None else self._generator.manual_seed(request.seed + index)
        self._stream = text
        self._text = ""
        self._sent = 0
        self._tokens: list[tuple[int, TokenLogprob | None]] = []
        """With how many characters of the text stood before it; a part of a character belongs to the next one."""
        self._told = 0

    def draw(self) -> float:
        """The next random number in [0, 1), the same for the same seed whatever else is in the batch."""
        return float(torch.rand(1, generator=self._generator, dtype=torch.float64))

    def take(self, token: NextToken, *, ends: bool) -> None:
        """Append a token and tell the listener what is new.

        Args:
            token: the one chosen.
            ends: whether it is an end token, which is no part of the answer.
        """
        if ends:
            self._finish("stop")
            return
        self.made.append(token.id)
        self.counts[token.id] += 1
        if self.matcher is not None:
            self.matcher.consume_token(token.id)
        self._tokens.append((len(self._text), token.logprob))
        self._text += self._stream.add(token.id)
        if (cut := self._stop_place()) is not None:
            self._cut(cut)
        elif self.matcher is not None and self.matcher.is_stopped():
            self._finish("stop")
        elif len(self.made) >= self._limit:
            self._finish("length")
        else:
            self._tell(self._certain())

    def choice(self) -> GeneratedChoice:
        """The finished answer."""
        return GeneratedChoice(self._text, self.finish_reason or "stop", [t for _, t in self._tokens if t is not None])

    @property
    def n_tokens(self) -> int:
        """Tokens of the finished answer; those of a stop sequence are not in it."""
        return len(self._tokens)

    def _stop_place(self) -> int | None:
        """Where the first stop sequence begins; none begins before what was already sent."""
        found = [place for stop in self._stops if (place := self._text.find(stop, self._sent)) >= 0]
        return min(found, default=None)

    def _cut(self, place: int) -> None:
        self._text = self._text[:place]
        self._tokens = [(start, logprob) for start, logprob in self._tokens if start < place]
        self.finish_reason = "stop"
        self._tell(len(self._text))

    def _finish(self, reason: str) -> None:
        self._text += self._stream.rest()
        self.finish_reason = reason
        self._tell(len(self._text))

    def _certain(self) -> int:
        """How much of the text cannot belong to a stop sequence that is still coming."""
        longest = max(map(len, self._stops), default=1) - 1
        for place in range(max(self._sent, len(self._text) - longest), len(self._text)):
            if any(stop.startswith(self._text[place:]) for stop in self._stops):
                return place
        return len(self._text)

    def _tell(self, certain: int) -> None:
        text = self._text[self._sent : certain]
        self._sent = certain
        if self._listen is None or not (text or self.finish_reason):
            return
        first = self._told
        while self._told < len(self._tokens) and (self.finish_reason or self._tokens[self._told][0] < certain):
            self._told += 1
        tokens = [logprob for _, logprob in self._tokens[first : self._told] if logprob is not None]
        self._listen(Delta(self.index, text, tokens, self.finish_reason))
