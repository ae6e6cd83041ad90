"""Whether what a model computes of a row is the same bits whatever is computed beside it, tried when it is loaded.

A library may add up a product's terms in another order where there are more rows, or more threads to share them among.
So decisions are computed on one thread, whatever else the machine does, and side by side where more rows change no bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from finetune_assets.server.generation.decision_readings import ROWS, WIDTH
from finetune_assets.server.generation.kv_cache import KeyValueCache, Layout
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.vision import one_thread

_LAYERS = 2
"""All layers of a decoder have products of the same shapes."""
_BEFORE = 24


@torch.inference_mode()
def steady(network: Network, layout: Layout) -> bool:
    """Try whether a few rows are the same bits alone and together, on one thread."""
    generator = torch.Generator().manual_seed(0)
    # Of tokens: some decoders look them up again by what they are embedded as.
    ids = torch.randint(network.vocabulary, (ROWS * WIDTH + _BEFORE,), generator=generator).to(network.device)
    embedded = network.embedding(ids)
    rows, before = embedded[: ROWS * WIDTH].unflatten(0, (ROWS, WIDTH)), embedded[None, ROWS * WIDTH :]
    with one_thread(), _few_layers(network.decoder):
        trial = _Trial(network, layout, before)
        whole = trial.states(rows)
        return all(
            torch.equal(trial.states(rows[place : place + n]), whole[place : place + n])
            for place, n in ((0, 1), (3, 2), (5, 7), (ROWS - 1, 1))
        )


class _Trial:
    """Runs of rows after one beginning."""

    def __init__(self, network: Network, layout: Layout, before: Tensor) -> None:
        self._network, self._layout = network, layout
        cache = KeyValueCache(layout, 1, _BEFORE)
        place = cache.begin_trees(0, [range(-1, _BEFORE - 1)], _BEFORE)
        network.decoder(inputs_embeds=before, use_cache=True, **place)
        self._before = cache.read(0, 0, _BEFORE)

    def states(self, rows: Tensor) -> Tensor:
        """Last hidden states, and logits of each row's last token, `[rows, width * d + vocabulary]`."""
        cache = KeyValueCache(self._layout, len(rows), _BEFORE + WIDTH)
        for row in range(len(rows)):
            cache.write(row, 0, [self._before])
        place = cache.begin_trees(_BEFORE, [range(-1, WIDTH - 1)] * len(rows), WIDTH)
        states = self._network.decoder(inputs_embeds=rows, use_cache=True, **place).last_hidden_state
        chosen = nn.functional.pad(states[:, -1], (0, 0, 0, ROWS - len(rows)))
        logits = self._network.logits(chosen)[: len(rows)]
        return torch.cat([states.flatten(1).float(), logits], dim=1)


@contextmanager
def _few_layers(decoder: Any) -> Iterator[None]:
    """Let a decoder be its first layers, if it keeps them where most do."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        yield
        return
    try:
        decoder.layers = layers[:_LAYERS]
        yield
    finally:
        decoder.layers = layers
