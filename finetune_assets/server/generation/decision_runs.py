"""The runs of a model in which decisions are computed: the input once, then what questions add, side by side."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator

import torch
from torch import Tensor

from finetune_assets.errors import BaseModelError
from finetune_assets.server.generation.decision_requests import Deciding
from finetune_assets.server.generation.kv_cache import KeyValueCache, Layout
from finetune_assets.server.generation.option_trie import OptionTrie
from finetune_assets.server.generation.prefix_cache import PrefixCache
from finetune_assets.server.model.chat_encoding import Sequence
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.own_forward import logits_at

_ROWS = 64
"""Places at which the vocabulary is weighed at once."""


class SharedRuns:
    """Computes with the parts of one model, in keys and values of our own; `chunk` tokens a run at most."""

    def __init__(self, network: Network, layout: Layout, kept: PrefixCache, chunk: int) -> None:
        self._network, self._layout, self._kept, self._chunk = network, layout, kept, chunk

    def answer(self, deciding: Deciding) -> Generator[int]:
        """Answer in runs of at most a chunk of tokens; each yields how many it has read."""
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
                    yield self._compute(deciding, run)
                    run = _Run(before, len(shared.ids))
                if size > self._chunk:  # the options read their question, which is too long to be read with them
                    begun = Sequence(question.tail.ids[:-1], images=question.tail.images)
                    own = yield from self._read(deciding, begun, before, len(shared.ids))
                    alone = _Run(own, len(shared.ids) + len(begun.ids))
                    alone.add(number, Sequence(question.tail.ids[-1:]), trie)
                    yield self._compute(deciding, alone)
                else:
                    run.add(number, question.tail, trie)
            if run.questions:
                yield self._compute(deciding, run)

    def _input(self, deciding: Deciding, shared: Sequence) -> Generator[int, None, list[Tensor]]:
        """Read the input unless it was kept; what is computed from it is the same bits either way."""
        key = _key(shared, deciding)
        if found := self._kept.find([key]):
            deciding.n_cached += len(shared.ids)
            deciding.n_tokens += len(shared.ids)
            return found[0]
        read = yield from self._read(deciding, shared, [], 0)
        if deciding.request.keep:
            self._kept.add(key, read)
            deciding.n_kept += len(shared.ids)
        return read

    def _read(
        self, deciding: Deciding, sequence: Sequence, before: list[Tensor], n_before: int
    ) -> Generator[int, None, list[Tensor]]:
        """Read tokens, part after part; returns keys and values of all, those `before` included."""
        n = len(sequence.ids)
        if not n:
            return before
        cache = KeyValueCache(self._layout, 1, n_before + n)
        if n_before:
            cache.write(0, 0, [before])
        embedded = self._embed(sequence, deciding)
        for start in range(0, n, self._chunk):
            width = min(self._chunk, n - start)
            place = cache.begin(torch.tensor([n_before + start], device=self._network.device), width)
            self._network.decoder(inputs_embeds=embedded[:, start : start + width], use_cache=True, **place)
            deciding.n_tokens += width
            yield width
        return cache.read(0, 0, n_before + n)

    def _compute(self, deciding: Deciding, run: _Run) -> int:
        """Read the questions of a run side by side, and weigh their options."""
        n = len(run.ids)
        cache = KeyValueCache(self._layout, 1, run.n_before + n)
        if run.n_before:
            cache.write(0, 0, [run.before])
        embedded = self._embed(Sequence(run.ids, images=run.images), deciding)
        place = cache.begin_tree(run.n_before, run.parents)
        states = self._network.decoder(inputs_embeds=embedded, use_cache=True, **place).last_hidden_state[0]
        for number, (trie, rows) in run.questions.items():
            inner = list(rows)
            steps: dict[int, dict[int, float]] = {}
            for start in range(0, len(inner), _ROWS):
                some = inner[start : start + _ROWS]
                steps |= _steps(trie, some, self._network.logits(states[[rows[node] for node in some]]))
            deciding.found[number] = _finite(trie.log_probabilities(steps))
        deciding.n_tokens += n
        return n

    def _embed(self, sequence: Sequence, deciding: Deciding) -> Tensor:
        projector = deciding.adapter.projector if deciding.adapter else None
        return self._network.embed([sequence.ids], [sequence.images], projector)


def by_own_forward(network: Network, deciding: Deciding) -> Generator[int]:
    """Answer by the model's own forward: one for each end of what the options of a question begin with."""
    for number, question in enumerate(deciding.questions):
        trie, prompt = OptionTrie(question.options), question.tail
        inner = set(trie.inner)
        steps: dict[int, dict[int, float]] = {}
        for end in (node for node in trie.inner if not any(child in inner for child in trie.children[node].values())):
            nodes = trie.path(end)
            ids = torch.tensor(prompt.ids + [trie.tokens[node] for node in nodes[1:]])
            places = torch.arange(len(prompt.ids) - 1, len(ids))
            steps |= _steps(trie, nodes, logits_at(network.model, ids, prompt.extras, places))
            yield len(ids)
        deciding.n_tokens += len(prompt.ids) + len(inner) - 1
        deciding.found[number] = _finite(trie.log_probabilities(steps))


class _Run:
    """Tokens that go through the decoder together, after an input that was read already."""

    def __init__(self, before: list[Tensor], n_before: int) -> None:
        self.before, self.n_before = before, n_before
        self.ids: list[int] = []
        self.parents: list[int] = []
        self.images: list[Tensor] = []
        self.questions: dict[int, tuple[OptionTrie, dict[int, int]]] = {}
        """By number the options, and for each of their inner nodes its place among the ids."""

    def add(self, number: int, tail: Sequence, trie: OptionTrie) -> None:
        """Add a question's own tokens, and after them the beginnings of its options."""
        previous = -1
        for token in tail.ids:
            self.parents.append(previous)
            previous = len(self.ids)
            self.ids.append(token)
        self.images += tail.images
        rows = {0: previous}
        for node in trie.inner[1:]:
            self.parents.append(rows[trie.parents[node]])
            rows[node] = len(self.ids)
            self.ids.append(trie.tokens[node])
        self.questions[number] = trie, rows


def _steps(trie: OptionTrie, nodes: list[int], logits: Tensor) -> dict[int, dict[int, float]]:
    """For each node the log-probabilities of the tokens that lead on, from logits `[nodes, vocabulary]`."""
    whole = torch.logsumexp(logits.double(), dim=-1)
    steps = {}
    for row, node in enumerate(nodes):
        tokens = list(trie.children[node])
        values = logits[row, tokens].double() - whole[row]
        steps[node] = dict(zip(tokens, values.tolist(), strict=True))
    return steps


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
