"""Reading prompts: several short ones at once, a long one in parts, none of them twice."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor, nn

from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.completion import BLOCK, Completion
from finetune_assets.server.generation.kv_cache import KeyValueCache, Layout
from finetune_assets.server.generation.lora import RowLora
from finetune_assets.server.generation.prefix_cache import PrefixCache
from finetune_assets.server.model.network import Network
from finetune_assets.server.turns import Turns

_WASTE = 0.25
"""The largest share of padding in a group of prompts."""
_WINDOW = 64
"""Among how many readings companions for the first are sought."""


@dataclass(eq=False)
class Reading:
    """What must be in the cache before `answers` can go on: the prompt, and what they said already."""

    completion: Completion
    answers: list[Answer]
    """Several only while they have said nothing."""

    @property
    def owner(self) -> str:
        """Who asks."""
        return self.completion.request.owner

    @property
    def ids(self) -> list[int]:
        """All tokens."""
        return self.completion.prompt.ids + self.answers[0].made

    def __len__(self) -> int:
        return len(self.completion.prompt.ids) + len(self.answers[0].made)


@dataclass(eq=False)
class Group:
    """Readings that go through the decoder together, one row each."""

    readings: list[Reading]
    left: list[int]
    """Of each row how many tokens the prefix cache did not know."""
    embedded: list[Tensor] = field(default_factory=list)
    """Of each row the embeddings `[s, d]` of what the prefix cache did not know."""
    found: list[int] = field(default_factory=list)
    """Of each row how many blocks the prefix cache knew."""
    cache: KeyValueCache | None = None
    """None until the first step."""
    done: int = 0
    """Tokens of each row that are read, beside those found."""

    @property
    def over(self) -> bool:
        """Whether nobody waits for any of them any more."""
        return all(reading.completion.over for reading in self.readings)


class Prefill:
    """Readings of one base model that wait, and those on their way."""

    def __init__(self, network: Network, layout: Layout, lora: RowLora, prefixes: PrefixCache, chunk: int) -> None:
        self._network, self._layout, self._lora, self._prefixes = network, layout, lora, prefixes
        self._chunk = chunk
        self._waiting: Turns[Reading] = Turns()
        self._groups: deque[Group] = deque()
        self._steps = 0
        self._served: dict[str, int] = {}
        """The step at which a group of each owner was last taken further."""

    @property
    def n_waiting(self) -> int:
        """Readings that are not begun."""
        return len(self._waiting)

    @property
    def n_begun(self) -> int:
        """Readings on their way."""
        return sum(len(group.readings) for group in self._groups)

    @property
    def n_next(self) -> int:
        """Tokens that the next `advance` reads, about."""
        group = self._groups[0]
        return min(self._chunk, sum(group.left))

    @property
    def n_tokens(self) -> int:
        """Tokens that the caches of readings on their way have room for, about."""
        return sum(len(group.readings) * max(map(len, group.readings)) for group in self._groups)

    @property
    def next_length(self) -> int:
        """Tokens of the reading that is next."""
        return next(map(len, self._waiting), 0)

    @property
    def begun(self) -> Counter[str]:
        """How many readings of each owner are on their way."""
        return Counter(reading.owner for group in self._groups for reading in group.readings)

    def prefer(self, cost: Callable[[str], int]) -> str | None:
        """Let the owner of the least cost be next, and return who that is; None if nothing waits."""
        return self._waiting.prefer(cost)

    def add(self, reading: Reading, *, first: bool = False) -> None:
        """Queue a reading; `first` before all others of its owner, because it was begun before."""
        self._waiting.add(reading.owner, reading, first=first)

    @property
    def current(self) -> list[Completion]:
        """The requests that `advance` works on."""
        return [reading.completion for reading in self._groups[0].readings] if self._groups else []

    def forget(self) -> None:
        """Forget the blocks of prompts that were read before."""
        self._prefixes.clear()

    def drop_cancelled(self) -> None:
        """Forget readings that nobody waits for any more."""
        self._waiting.keep(lambda reading: not reading.completion.over)
        self._groups = deque(group for group in self._groups if not group.over)

    def begin(self, at_most: int) -> None:
        """Begin with waiting readings, as many as `at_most` and as fit into one run of the decoder."""
        chosen, left = self._choose(at_most)
        if chosen:
            self._waiting.take(chosen)
            self._groups.append(Group(chosen, left))
            self._give_turn()

    def advance(self) -> tuple[list[Reading], KeyValueCache, Tensor] | None:
        """Take one group a step further, another one at the next call.

        Returns:
            Once a group is read: its readings, the cache with a row for each of them, and the logits
            `[rows, vocabulary]` after their last tokens. It stays `current` until `finished`.
        """
        group = self._groups[0]
        self._steps += 1
        self._served |= {reading.owner: self._steps for reading in group.readings}
        cache = self._start(group) if group.cache is None else group.cache  # an empty Cache is false
        longest = max(map(len, group.embedded))
        width = min(longest - group.done, max(1, self._chunk // len(group.readings)))
        rows = nn.utils.rnn.pad_sequence([row[group.done : group.done + width] for row in group.embedded], True)
        device = self._network.device
        starts = torch.tensor([n * BLOCK + group.done for n in group.found], device=device)
        self._lora.select([reading.completion.adapter for reading in group.readings])
        place = cache.begin(starts, width)
        states = self._network.decoder(inputs_embeds=rows, use_cache=True, **place).last_hidden_state
        group.done += width
        if group.done < longest:
            self._groups.rotate(-1)
            self._give_turn()
            return None
        self._keep_blocks(group, cache)
        last = torch.tensor([len(row) - 1 for row in group.embedded], device=device) - (group.done - width)
        logits = self._network.logits(states[torch.arange(len(last), device=device), last])
        return group.readings, cache, logits

    def _give_turn(self) -> None:
        """Bring the group to the front whose owner has waited for longest; of one owner, they come in turn."""
        served = [min(self._served.get(reading.owner, 0) for reading in group.readings) for group in self._groups]
        self._groups.rotate(-served.index(min(served)))

    def finished(self) -> None:
        """Let go of the group that `advance` has returned."""
        self._groups.popleft()
        if self._groups:
            self._give_turn()

    def _choose(self, at_most: int) -> tuple[list[Reading], list[int]]:
        """The reading that is next, and others of about its length; of each the tokens that are left to read.

        A reading whose next block is being read by another one waits: it will find that block in the prefix cache.
        """
        pending = {key for group in self._groups for reading in group.readings for key in reading.completion.block_keys}
        chosen: list[Reading] = []
        lengths: list[int] = []
        for reading in islice(self._waiting, _WINDOW):
            keys = reading.completion.block_keys
            n_found = len(self._prefixes.find(keys))
            if n_found < len(keys) and keys[n_found] in pending:
                continue
            left = len(reading) - n_found * BLOCK
            padded = (len(lengths) + 1) * max([*lengths, left])
            if lengths and (padded > self._chunk or sum(lengths) + left < (1 - _WASTE) * padded):
                continue
            chosen.append(reading)
            lengths.append(left)
            pending.update(keys)
            if len(chosen) == at_most:
                break
        return chosen, lengths

    def _start(self, group: Group) -> KeyValueCache:
        found = [self._prefixes.find(reading.completion.block_keys) for reading in group.readings]
        group.found = [len(blocks) for blocks in found]
        group.embedded = [self._embed(r)[n * BLOCK :] for r, n in zip(group.readings, group.found, strict=True)]
        # Padding is written too, so every row has room for the longest.
        capacity = max(group.found) * BLOCK + max(map(len, group.embedded))
        group.cache = KeyValueCache(self._layout, len(group.readings), capacity)
        for row, (reading, blocks) in enumerate(zip(group.readings, found, strict=True)):
            if blocks:
                group.cache.write(row, 0, blocks)
            if reading.completion.cached_tokens is None:
                reading.completion.cached_tokens = len(blocks) * BLOCK
        return group.cache

    def _embed(self, reading: Reading) -> Tensor:
        adapter = reading.completion.adapter
        projector = adapter.projector if adapter else None
        return self._network.embed([reading.ids], [reading.completion.prompt.images], projector)[0]

    def _keep_blocks(self, group: Group, cache: KeyValueCache) -> None:
        for row, reading in enumerate(group.readings):
            known = group.found[row]
            for place, key in enumerate(reading.completion.block_keys[known:], known):
                self._prefixes.add(key, cache.read(row, place * BLOCK, (place + 1) * BLOCK))
