"""Readings for decisions: tokens of several requests that go through a model side by side, to the same bits as alone.

A row's bits must not depend on its companions. So rows share a run only where each has a decoder's run of the same
shape by itself, each run is computed on one thread (several at once, on the cores that there are), and whether a run's
products are indeed the same for any number of rows is tried when the model is loaded (see `steadiness`).
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune_assets.server.devices import cores
from finetune_assets.server.generation.kv_cache import KeyValueCache, Layout
from finetune_assets.server.generation.lora import Adapter
from finetune_assets.server.model.network import Network

WIDTH = 16
"""Rows are padded to a multiple of it: products over fewer tokens are computed in other ways, and no faster."""
ROWS = 16
"""Most rows of a run, and places at which the vocabulary is weighed at once."""
_TOKENS_OF_A_CORE = 4 * WIDTH
"""With fewer, a core computes them sooner than it is sent for."""


@dataclass(eq=False)
class Reading:
    """Tokens of one request that are to be read in one run."""

    before: list[list[Tensor]]
    """Keys and values of what stands before them, in pieces."""
    n_before: int
    embedded: Tensor
    """`[n, d]`"""
    parents: list[int]
    """Of each token the number of the one that it follows; -1: it follows what stands before all of them."""
    adapter: Adapter | None
    asked: dict[int, list[int]]
    """By the number of a token, which next tokens are weighed after it."""
    keep: bool = False
    """Whether their own keys and values are wanted."""
    at_least: int = 0
    """Tokens to which it is padded, so that those of one request may share a run."""

    @property
    def width(self) -> int:
        """Tokens with padding."""
        return -(-max(len(self.parents), self.at_least) // WIDTH) * WIDTH

    @property
    def shape(self) -> tuple[object, ...]:
        """Readings of the same shape may share a run."""
        return self.n_before, self.width, self.adapter.key if self.adapter else None


@dataclass(frozen=True, slots=True)
class Read:
    """What a reading has found."""

    steps: dict[int, dict[int, float]]
    """By the number of a token the log-probabilities of the next tokens that were asked for."""
    piece: list[Tensor]
    """Keys and values of the reading's tokens; empty unless they were wanted."""


class Readings:
    """Runs readings through the parts of one model, in keys and values of our own."""

    def __init__(self, network: Network, layout: Layout) -> None:
        self._network, self._layout = network, layout
        self._cores = cores() if network.device.type == "cpu" else 1
        self._hands = ThreadPoolExecutor(self._cores, "decisions", initializer=torch.set_num_threads, initargs=(1,))

    def run(self, readings: Several[Reading]) -> list[Read]:
        """Read what is of one shape, shared out among the cores: one thread each for some of the rows.

        Their adapter, which all have in common, must be the one that is selected.
        """
        n_parts = min(self._cores, len(readings), len(readings) * readings[0].width // _TOKENS_OF_A_CORE)
        if n_parts < 2:
            return self._run(readings)
        size = -(-len(readings) // n_parts)
        parts = [readings[start : start + size] for start in range(0, len(readings), size)]
        return [read for part in self._hands.map(self._run, parts) for read in part]

    @torch.inference_mode()
    def _run(self, readings: Several[Reading]) -> list[Read]:
        n, width = readings[0].n_before, readings[0].width
        cache = KeyValueCache(self._layout, len(readings), n + width)
        for row, reading in enumerate(readings):
            if n:
                cache.write(row, 0, reading.before)
        embedded = torch.stack([_padded(reading.embedded, width) for reading in readings])
        place = cache.begin_trees(n, [reading.parents for reading in readings], width)
        states = self._network.decoder(inputs_embeds=embedded, use_cache=True, **place).last_hidden_state
        steps = self._weigh(readings, states)
        return [
            Read(found, cache.read(row, n, n + len(reading.parents)) if reading.keep else [])
            for row, (reading, found) in enumerate(zip(readings, steps, strict=True))
        ]

    def _weigh(self, readings: Several[Reading], states: Tensor) -> list[dict[int, dict[int, float]]]:
        """Weigh next tokens from the states `[rows, width, d]`, at a fixed number of places at once."""
        found: list[dict[int, dict[int, float]]] = [{} for _ in readings]
        places = [(row, token) for row, reading in enumerate(readings) for token in reading.asked]
        for start in range(0, len(places), ROWS):
            some = places[start : start + ROWS]
            chosen = torch.stack([states[place] for place in some])
            logits = self._network.logits(_padded(chosen, ROWS))
            for at, (row, token) in enumerate(some):
                found[row][token] = next_steps(logits[at], readings[row].asked[token])
        return found


def next_steps(logits: Tensor, tokens: list[int]) -> dict[int, float]:
    """Log-probabilities of some tokens, from logits `[vocabulary]`."""
    exact = logits.double()
    values = exact[tokens] - torch.logsumexp(exact, dim=-1)
    return dict(zip(tokens, values.tolist(), strict=True))


def _padded(rows: Tensor, n: int) -> Tensor:
    """The last of `[m, d]` again, up to `[n, d]`: a token's, as some decoders look up what is embedded as what."""
    return torch.cat([rows, rows[-1:].expand(n - len(rows), -1)])
