"""The running batch of one base model: answers of any adapter that grow by one token at each step.

A step reads a part of the waiting prompts, then decodes one token for every row. So prompts join between steps, a
long one never holds up the rows for longer than one part of it, and rows leave as soon as they end.
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from finetune_assets.errors import BaseModelError
from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.completion import Completion
from finetune_assets.server.generation.kv_cache import KeyValueCache, layout_of
from finetune_assets.server.generation.lora import RowLora
from finetune_assets.server.generation.memory import Budget
from finetune_assets.server.generation.next_tokens import NextTokens
from finetune_assets.server.generation.prefill import Prefill, Reading
from finetune_assets.server.generation.prefix_cache import PrefixCache
from finetune_assets.server.generation.requests import GenerationRequest
from finetune_assets.server.model.chat_encoding import PromptError
from finetune_assets.server.model.network import Network

_SMALLEST_CAPACITY = 128

logger = logging.getLogger(__name__)


class Growing(Protocol):
    """Everything that is under way for one base model, however it is computed."""

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        ...

    @property
    def n_rows(self) -> int:
        """Answers that grow at each step."""
        ...

    @property
    def n_waiting(self) -> int:
        """Prompts that nothing was done for yet."""
        ...

    def fail_all(self, error: Exception) -> None:
        """End everything that is under way."""
        ...

    def step(self, set_threads: Callable[[int], None]) -> None:
        """Make every answer longer by a token, and begin with those that wait."""
        ...


@dataclass(eq=False)
class Row:
    """An answer and how many tokens of it and its prompt are in the cache: all but the newest."""

    completion: Completion
    answer: Answer
    length: int


class Batch:
    """Everything that is under way for one base model. Used by one thread only."""

    def __init__(self, network: Network, budget: Budget, release: Callable[[Completion], None]) -> None:
        self.network = network
        self._layout = layout_of(network)
        self._budget = budget
        self._release = release
        self.lora = RowLora(network)
        self._prefill = Prefill(network, self._layout, self.lora, PrefixCache(budget.prefixes), budget.chunk)
        self._next = NextTokens(network)
        self._rows: list[Row] = []
        self._cache: KeyValueCache | None = None
        self._open: list[Completion] = []

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._open)

    @property
    def n_rows(self) -> int:
        """Answers that grow at each step."""
        return len(self._rows)

    @property
    def n_waiting(self) -> int:
        """Prompts that nothing was done for yet."""
        return self._prefill.n_waiting

    def add(self, completion: Completion) -> None:
        """Queue a request."""
        self._open.append(completion)
        growing = completion.growing
        if fresh := [answer for answer in growing if not answer.made]:
            self._prefill.add(Reading(completion, fresh))
        for begun in (answer for answer in growing if answer.made):  # by another engine, which broke off
            self._prefill.add(Reading(completion, [begun]))

    def fail_all(self, error: Exception) -> None:
        """End everything that is under way."""
        for completion in self._open:
            completion.fail(error)

    def forget(self) -> None:
        """Keep no keys and values of prompts that were read before."""
        self._prefill.forget()

    @torch.inference_mode()
    def step(self, set_threads: Callable[[int], None]) -> None:
        """Read a part of the prompts and decode one token of every row; drop who was cancelled, answer who is done.

        Args:
            set_threads: called before each run of the model with the number of its tokens.
        """
        unscored = [completion for completion in self._open if completion.unscored and not completion.over][:1]
        self._guarded(lambda: self._score(unscored, set_threads), lambda: unscored)
        self._guarded(lambda: self._read(set_threads), lambda: self._prefill.current)
        set_threads(len(self._rows))
        self._guarded(self._decode, lambda: [row.completion for row in self._rows])
        self._settle()

    def _score(self, unscored: list[Completion], set_threads: Callable[[int], None]) -> None:
        """Say how probable the tokens of a prompt are, of one request at each step."""
        for completion in unscored:
            ids = completion.prompt.ids
            set_threads(len(ids))
            self.lora.select([completion.adapter])
            states = self.network.states(self.network.embed([ids], [[]]), 0)[0]
            completion.scores = self._next.scores(ids, partial(self._logits, states), completion.request.top_logprobs)

    def _logits(self, states: Tensor, start: int, end: int) -> Tensor:
        return self.network.logits(states[start:end])

    def _guarded(self, work: Callable[[], None], concerned: Callable[[], list[Completion]]) -> None:
        """Do a part of the step. If it fails, so do the requests it was for, and no other."""
        try:
            self._drop_cancelled()
            work()
        except Exception as error:  # noqa: BLE001 - whoever asked gets it; the engine must live on
            # Without the error's message, which may quote a prompt.
            trace = "".join(traceback.format_tb(error.__traceback__))
            logger.warning("generation with %s failed: %s\n%s", self.network.base.name, type(error).__name__, trace)
            failure = explained(error)
            for completion in concerned():
                completion.fail(failure)
            self._drop_cancelled()

    def _drop_cancelled(self) -> None:
        self._prefill.drop_cancelled()
        for place in reversed(range(len(self._rows))):
            if self._rows[place].completion.over:
                self._remove(place)

    def _read(self, set_threads: Callable[[int], None]) -> None:
        while not self._has_room() and self._yields():
            pass
        if self._has_room():
            self._prefill.begin(self._budget.rows - self._n_under_way)
        if not self._prefill.n_begun:
            return
        set_threads(self._prefill.n_next)
        if (read := self._prefill.advance()) is not None:
            self._start(*read)
            self._prefill.finished()

    @property
    def _n_under_way(self) -> int:
        return len(self._rows) + self._prefill.n_begun

    def _has_room(self) -> bool:
        """Whether the reading that is next may begin."""
        under_way = self._n_under_way
        tokens = max(self._capacity, self._prefill.next_length + 1)
        beside = self._prefill.n_tokens + self._prefill.next_length
        return under_way < self._budget.rows and (not under_way or self._fits(under_way + 1, tokens, beside))

    def _yields(self) -> bool:
        """Send the newest row of the owner with the most back to wait, if one who waits has at least two fewer."""
        rows = Counter(row.completion.request.owner for row in self._rows)
        held = rows + self._prefill.begun
        fewest = self._prefill.prefer(lambda owner: held[owner])
        if fewest is None or not rows:
            return False
        most, n = rows.most_common(1)[0]
        if n < held[fewest] + 2:
            return False
        self._send_back(max(place for place, row in enumerate(self._rows) if row.completion.request.owner == most))
        return True

    def _start(self, readings: list[Reading], cache: KeyValueCache, logits: Tensor) -> None:
        """Choose the first tokens after prompts that are read, and let the rows join that need more."""
        starts, places = [], []
        for place, reading in enumerate(readings):
            room = max(1, self._budget.rows - len(self._rows) - len(starts))
            for answer in reading.answers[:room]:
                starts.append(Row(reading.completion, answer, len(reading.ids)))
                places.append(place)
            if rest := reading.answers[room:]:
                self._prefill.add(Reading(reading.completion, rest), first=True)
        self._take(starts, logits[places])
        for row, place in zip(starts, places, strict=True):
            if row.answer.finish_reason is None and not row.completion.over:
                self._rows.append(row)
                whole = self._reserve(len(self._rows), row.length + 1)
                whole.copy(cache, place, len(self._rows) - 1, row.length)

    def _decode(self) -> None:
        self._preempt()
        if not self._rows:
            return
        cache = self._reserve(len(self._rows), max(row.length for row in self._rows) + 1)
        device = self.network.device
        self.lora.select([row.completion.adapter for row in self._rows])
        newest = torch.tensor([[row.answer.made[-1]] for row in self._rows], device=device)
        lengths = torch.tensor([row.length for row in self._rows], device=device)
        out = self.network.decoder(
            inputs_embeds=self.network.embedding(newest), use_cache=True, **cache.begin(lengths, 1)
        )
        for row in self._rows:
            row.length += 1
        self._take(self._rows, self.network.logits(out.last_hidden_state[:, -1]))
        for place in reversed(range(len(self._rows))):
            if self._rows[place].answer.finish_reason is not None:
                self._remove(place)

    def _take(self, rows: list[Row], logits: Tensor) -> None:
        """Give every row its next token, from `logits` `[rows, vocabulary]`."""
        tokens = self._next.choose([row.answer for row in rows], logits)
        for row, token in zip(rows, tokens, strict=True):
            if row.completion.over:
                continue
            if token is None:
                row.completion.fail(no_choice(row.completion.request))
                continue
            try:
                row.answer.take(token, ends=token.id in self.network.end_ids)
            except Exception as error:  # noqa: BLE001 - a listener failed: that ends its own request, no other
                row.completion.fail(error)

    def _remove(self, place: int) -> None:
        """Take a row out; the last one moves to its place."""
        gone, last = self._rows[place], self._rows.pop()
        if not self._rows or self._cache is None:
            self._cache = None
            return
        length = max(gone.length, last.length) + 1
        if gone is not last:
            self._rows[place] = last
            self._cache.copy(self._cache, len(self._rows), place, length)
        self._cache.clear(len(self._rows), length)

    @property
    def _capacity(self) -> int:
        return _SMALLEST_CAPACITY if self._cache is None else self._cache.capacity

    def _reserve(self, rows: int, tokens: int) -> KeyValueCache:
        """The cache, grown by doubling until it has room for so many rows and tokens of each."""
        if self._cache is None:
            self._cache = KeyValueCache(self._layout, *_doubled(1, _SMALLEST_CAPACITY, rows, tokens))
        elif rows > self._cache.rows or tokens > self._cache.capacity:
            size = _doubled(self._cache.rows, self._cache.capacity, rows, tokens)
            self._cache = self._cache.resized(*size)
        return self._cache

    def _fits(self, rows: int, tokens: int, beside: int = 0) -> bool:
        """Whether a cache of this size, and `beside` more tokens, stay within the memory for rows."""
        n_rows, capacity = _doubled(1, _SMALLEST_CAPACITY, rows, tokens)
        return (n_rows * capacity + beside) * self._layout.bytes_per_token <= self._budget.rows_bytes

    def _preempt(self) -> None:
        """Send the newest rows back to be read again later while the batch would outgrow its memory."""
        while len(self._rows) > 1 and not self._fits(len(self._rows), max(row.length for row in self._rows) + 1):
            self._send_back(len(self._rows) - 1)

    def _send_back(self, place: int) -> None:
        """Let a row be read again later, with what it has said."""
        row = self._rows[place]
        self._remove(place)
        self._prefill.add(Reading(row.completion, [row.answer]), first=True)

    def _settle(self) -> None:
        """Answer the requests that are complete, and let go of their adapters."""
        for completion in self._open:
            completion.settle()
        # Cancelling may happen at any moment. Who is let go of here must have left all else before.
        over = [completion for completion in self._open if completion.over]
        self._drop_cancelled()
        for completion in over:
            self._open.remove(completion)
            self._release(completion)


def _doubled(rows: int, capacity: int, wanted_rows: int, wanted_capacity: int) -> tuple[int, int]:
    while rows < wanted_rows:
        rows *= 2
    while capacity < wanted_capacity:
        capacity *= 2
    return rows, capacity


def no_choice(request: GenerationRequest) -> Exception:
    """Say why no token can be chosen."""
    if request.logit_bias:
        return PromptError("logit_bias leaves no token to choose.", "invalid_value", "logit_bias")
    return BaseModelError("the model computes no finite probabilities for this prompt")


def explained(error: Exception) -> Exception:
    """Word an error for whoever asked."""
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
    elif "can't allocate memory" not in str(error):  # torch has no class for it on a CPU
        return error
    return BaseModelError("the server ran out of memory; send fewer or shorter requests at once")
