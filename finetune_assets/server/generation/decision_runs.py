"""What must be read for decisions: the input once, then what questions add, as branches that see it and not each other.

What questions begin with alike is one branch, which forks where they differ. A request's answers are made by a
generator, which yields the readings that it needs next, which may be read side by side, and is sent what they found.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator
from typing import TypeAlias

import torch
from torch import Tensor

from finetune_assets.errors import BaseModelError
from finetune_assets.server.generation.decision_readings import Read, Reading, next_steps
from finetune_assets.server.generation.decision_requests import Deciding
from finetune_assets.server.generation.option_trie import OptionTrie
from finetune_assets.server.generation.prefix_cache import PrefixCache
from finetune_assets.server.model.chat_encoding import Sequence
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.own_forward import logits_at

Work: TypeAlias = "Generator[list[Reading], list[Read]]"
"""The way to a request's answers. Where it yields no readings, it goes on by a run of its own."""
_Reads: TypeAlias = "Generator[list[Reading], list[Read], list[list[Tensor]]]"
_PART = 96
"""Tokens of a reading above which its questions are shared out among several, as cores read them side by side. It is
the same on every machine, since what a token is read beside may change its last bits."""


class SharedRuns:
    """Answers by readings of at most `chunk` tokens; what several requests share is `kept`."""

    def __init__(self, network: Network, kept: PrefixCache, chunk: int) -> None:
        self._network, self._kept, self._chunk = network, kept, chunk

    def answer(self, deciding: Deciding) -> Work:
        """Answer a request's questions."""
        places: dict[int, list[int]] = {}
        for number, question in enumerate(deciding.questions):
            places.setdefault(id(question.shared), []).append(number)
        for numbers in places.values():
            shared = deciding.questions[numbers[0]].shared
            before = yield from self._input(deciding, shared)
            run = _Run(before, len(shared.ids))
            for number in numbers:
                question, trie = deciding.questions[number], OptionTrie(deciding.questions[number].options)
                size = len(question.tail.ids) + len(trie.inner) - 1
                if run.questions and len(run.ids) + size > self._chunk:
                    yield from self._weigh(deciding, run)
                    run = _Run(before, len(shared.ids))
                if size > self._chunk:  # the options read their question, which is too long to be read with them
                    begun = Sequence(question.tail.ids[:-1], images=question.tail.images)
                    own = yield from self._read(deciding, begun, before, len(shared.ids))
                    alone = _Run(own, len(shared.ids) + len(begun.ids))
                    alone.add(number, Sequence(question.tail.ids[-1:]), trie)
                    yield from self._weigh(deciding, alone)
                else:
                    run.add(number, question.tail, trie)
            if run.questions:
                yield from self._weigh(deciding, run)

    def _input(self, deciding: Deciding, shared: Sequence) -> _Reads:
        """Read the input unless it was kept; what is computed from it is the same bits either way."""
        key = _key(shared, deciding)
        if found := self._kept.find([key]):
            deciding.n_cached += len(shared.ids)
            deciding.n_tokens += len(shared.ids)
            return found
        pieces = yield from self._read(deciding, shared, [], 0)
        if deciding.request.keep and pieces:
            self._kept.add(key, [torch.cat(parts, dim=2) for parts in zip(*pieces, strict=True)])
            deciding.n_kept += len(shared.ids)
        return pieces

    def _read(self, deciding: Deciding, sequence: Sequence, before: list[list[Tensor]], n_before: int) -> _Reads:
        """Read tokens, part after part; returns keys and values of all, those `before` included."""
        pieces = list(before)
        embedded = self._embed(sequence, deciding) if sequence.ids else torch.empty(0)
        for start in range(0, len(embedded), self._chunk):
            part = embedded[start : start + self._chunk]
            chain = list(range(-1, len(part) - 1))
            [read] = yield [Reading(pieces, n_before + start, part, chain, deciding.adapter, {}, keep=True)]
            pieces = [*pieces, read.piece]
            deciding.n_tokens += len(part)
        return pieces

    def _weigh(self, deciding: Deciding, run: _Run) -> Work:
        """Read the questions of a run side by side, and weigh their options."""
        parts = run.parts()
        width = max(len(part.ids) for part in parts)
        reads = yield [self._reading(deciding, part, width) for part in parts]
        for part, read in zip(parts, reads, strict=True):
            for number, (_, trie, rows) in part.questions.items():
                steps = {node: read.steps[row] for node, row in rows.items()}
                deciding.found[number] = _finite(trie.log_probabilities(steps))
        deciding.n_tokens += len(run.ids)

    def _reading(self, deciding: Deciding, run: _Run, width: int) -> Reading:
        embedded = self._embed(Sequence(run.ids, images=run.images), deciding)
        return Reading(run.before, run.n_before, embedded, run.parents, deciding.adapter, run.asked, at_least=width)

    def _embed(self, sequence: Sequence, deciding: Deciding) -> Tensor:
        """`[n, d]`; the projector sees the images of one request at a time, whatever its companions."""
        projector = deciding.adapter.projector if deciding.adapter else None
        return self._network.embed([sequence.ids], [sequence.images], projector)[0]


def by_own_forward(network: Network, deciding: Deciding) -> Work:
    """Answer by the model's own forward: one for each end of what the options of a question begin with."""
    for number, question in enumerate(deciding.questions):
        trie, prompt = OptionTrie(question.options), question.tail
        inner = set(trie.inner)
        steps: dict[int, dict[int, float]] = {}
        for end in (node for node in trie.inner if not any(child in inner for child in trie.children[node].values())):
            yield []
            nodes = trie.path(end)
            ids = torch.tensor(prompt.ids + [trie.tokens[node] for node in nodes[1:]])
            places = torch.arange(len(prompt.ids) - 1, len(ids))
            logits = logits_at(network.model, ids, prompt.extras, places)
            steps |= {node: next_steps(logits[at], list(trie.children[node])) for at, node in enumerate(nodes)}
        deciding.n_tokens += len(prompt.ids) + len(inner) - 1
        deciding.found[number] = _finite(trie.log_probabilities(steps))


class _Run:
    """Tokens that go through the decoder together, after an input that was read already."""

    def __init__(self, before: list[list[Tensor]], n_before: int) -> None:
        self.before, self.n_before = before, n_before
        self.ids: list[int] = []
        self.parents: list[int] = []
        self.images: list[Tensor] = []
        self.questions: dict[int, tuple[Sequence, OptionTrie, dict[int, int]]] = {}
        """By number its own tokens, the options, and for each of their inner nodes its place among the ids."""

        self.asked: dict[int, list[int]] = {}
        """By a token's place among the ids, what is weighed after it."""
        self._known: dict[tuple[int, int], int] = {}

    def add(self, number: int, tail: Sequence, trie: OptionTrie) -> None:
        """Add a question's own tokens, and after them the beginnings of its options."""
        previous = -1
        for token in tail.ids:
            previous = self._after(previous, token)
        self.images += tail.images
        rows = {0: previous}
        for node in trie.inner[1:]:
            rows[node] = self._after(rows[trie.parents[node]], trie.tokens[node])
        for node, row in rows.items():
            asked = self.asked.setdefault(row, [])
            asked += [token for token in trie.children[node] if token not in asked]
        self.questions[number] = tail, trie, rows

    def parts(self) -> list[_Run]:
        """Share out the questions, in their order, among a power of two of runs that are about as long."""
        n = 1
        while len(self.ids) > _PART * n and n < len(self.questions):
            n *= 2
        size = -(-len(self.questions) // n)
        if n == 1:
            return [self]
        numbers = list(self.questions)
        return [self._part(numbers[start : start + size]) for start in range(0, len(numbers), size)]

    def _part(self, numbers: list[int]) -> _Run:
        part = _Run(self.before, self.n_before)
        for number in numbers:
            tail, trie, _ = self.questions[number]
            part.add(number, tail, trie)
        return part

    def _after(self, previous: int, token: int) -> int:
        """The place of a token behind another one: that of a question which begins alike, if there is one."""
        if token >= 0 and (previous, token) in self._known:
            return self._known[previous, token]
        self.parents.append(previous)
        self.ids.append(token)
        self._known[previous, token] = place = len(self.ids) - 1
        return place


def _finite(log_probabilities: list[float]) -> list[float]:
    if not any(math.isfinite(value) for value in log_probabilities) or any(map(math.isnan, log_probabilities)):
        raise BaseModelError("the model computes no finite probabilities for this prompt")
    return log_probabilities


def _key(shared: Sequence, deciding: Deciding) -> bytes:
    """Stands for all that the keys and values of an input depend on, and for who may find them."""
    said = f"{deciding.adapter.key if deciding.adapter else ''}|{deciding.request.partition}|"
    digest = hashlib.sha256(said.encode())
    digest.update(torch.tensor(shared.ids, dtype=torch.int64).numpy().tobytes())
    for features in shared.images:
        digest.update(features.numpy().tobytes())
    return digest.digest()
