"""One answer in the making: which tokens it has, what of its text is certain, and when it ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

import torch

from finetune_assets.server.generation.calls import Call, CallDelta
from finetune_assets.server.generation.requests import Delta, GeneratedChoice, GenerationRequest
from finetune_assets.server.generation.sampling import TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Callable

    from llguidance import LLMatcher

    from finetune_assets.server.generation.answer_reader import AnswerReader, Piece
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
        reader: AnswerReader | None = None,
    ) -> None:
        self.request = request
        self.index = index
        self.matcher = matcher
        self.made: list[int] = []
        """All tokens so far; the end token is not one."""
        self.counts: Counter[int] = Counter()
        """How often each token occurs in `made`, for the penalties."""
        self.finish_reason: str | None = None
        self.end: int | None = None
        """The end token, where it came."""
        self._ending: TokenLogprob | None = None
        self.n_thought = 0
        """How many of the tokens were thought."""
        self._reader = reader
        """None: all that comes is said."""
        self._thought = ""
        self._calls: list[Call] = []
        self._n_cut = 0
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
            self.end, self._ending = token.id, token.logprob
            self._finish("stop")
            return
        self.made.append(token.id)
        self.counts[token.id] += 1
        if self.matcher is not None:
            self.matcher.consume_token(token.id)
        if self._reader is None:
            self._tokens.append((len(self._text), token.logprob))
            self._text += self._stream.add(token.id)
        else:
            self._read(self._reader, token)
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
        tokens = [token for _, token in self._tokens if token is not None]
        reason = self.finish_reason or "stop"
        return GeneratedChoice(self._text, reason, tokens, self._thought, self._calls, self._ending)

    @property
    def room(self) -> int:
        """How many tokens it may still have."""
        return self._limit - len(self.made)

    @property
    def n_tokens(self) -> int:
        """Tokens of the finished answer; those of a stop sequence are not in it."""
        return len(self.made) - self._n_cut

    def _read(self, reader: AnswerReader, token: NextToken) -> None:
        """Take in a token of an answer that may be more than something said."""
        if reader.says:
            self._tokens.append((len(self._text) + reader.n_held, token.logprob))
        self.n_thought += reader.thinks
        for piece in reader.feed(self._stream.add(token.id)):
            self._take_in(piece)

    def _take_in(self, piece: Piece) -> None:
        match piece.kind:
            case "content":
                self._text += piece.text
            case "mark":  # what was held back, and is none of what is said
                self._tokens = [(start, logprob) for start, logprob in self._tokens if start < len(self._text)]
            case "thought":
                self._thought += piece.text
                self._hear(Delta(self.index, "", [], None, thought=piece.text))
            case "name":
                self._tell(len(self._text))
                self._calls.append(Call(piece.text))
                self._hear_of_call(piece.text, "")
            case "arguments":
                self._calls[-1].arguments += piece.text
                self._hear_of_call(None, piece.text)

    def _hear(self, delta: Delta) -> None:
        if self._listen is not None:
            self._listen(delta)

    def _hear_of_call(self, name: str | None, arguments: str) -> None:
        call = CallDelta(len(self._calls) - 1, name, arguments)
        self._hear(Delta(self.index, "", [], None, call=call))

    def _stop_place(self) -> int | None:
        """Where the first stop sequence begins; none begins before what was already sent."""
        found = [place for stop in self._stops if (place := self._text.find(stop, self._sent)) >= 0]
        return min(found, default=None)

    def _cut(self, place: int) -> None:
        self._text = self._text[:place]
        self._n_cut = sum(start >= place for start, _ in self._tokens)
        self._tokens = [(start, logprob) for start, logprob in self._tokens if start < place]
        self.finish_reason = "stop"
        self._tell(len(self._text))

    def _finish(self, reason: str) -> None:
        rest = self._stream.rest()
        if self._reader is None:
            self._text += rest
        else:
            for piece in (*self._reader.feed(rest), *self._reader.end()):
                self._take_in(piece)
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
