"""Keys and values of a batch's rows, in storage that is allocated ahead and written in place.

Rows are aligned on the left and each has its own length, so that rows may join, grow and leave at any step.
What lies beyond a row's length is masked; it is zero or finite, because a masked NaN would still spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from finetune_assets.errors import BaseModelError
from finetune_assets.server.model import horizons
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.own_forward import logits_at
from finetune_assets.server.model.proof import close

_PROBE = 6
"""Tokens of the trial run that learns a decoder's shapes and checks that this cache suits it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The shapes of what a decoder keeps of each token."""

    shapes: tuple[tuple[int, int], ...]
    """(heads, width) of layer 0's keys, its values, layer 1's keys, and so on."""
    windows: dict[str, int | None]
    """For each of the decoder's layer types how many tokens back it sees; None: all. One entry is the usual case."""
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Memory for one token of one row."""
        return sum(heads * width for heads, width in self.shapes) * self.dtype.itemsize


class KeyValueCache(Cache):
    """Room for `rows` rows of `capacity` tokens each.

    Tensors of one shape share one allocation, `[n, rows, heads, capacity, width]`, so that moving a row takes one
    operation and not two per layer.
    """

    def __init__(self, layout: Layout, rows: int, capacity: int) -> None:
        super().__init__(layers=[])
        self.layout = layout
        self.rows, self.capacity = rows, capacity
        self._places: list[tuple[int, int]] = []
        counts: dict[tuple[int, int], int] = {}
        for shape in layout.shapes:
            counts.setdefault(shape, 0)
            self._places.append((list(counts).index(shape), counts[shape]))
            counts[shape] += 1
        self._stacks = [
            torch.zeros(n, rows, heads, capacity, width, dtype=layout.dtype, device=layout.device)
            for (heads, width), n in counts.items()
        ]
        self._tensors = [self._stacks[stack][place] for stack, place in self._places]
        self._row = self._column = torch.empty(0)
        self._length = 0

    def begin(self, starts: Tensor, width: int) -> dict[str, Any]:
        """Prepare a run of the decoder over the first `b` rows, and return what tells it where they stand.

        Args:
            starts: `[b]`, how many tokens of each row are here already.
            width: how many new tokens each row gets; the later ones of some rows may be padding.
        """
        self._row = torch.arange(len(starts), device=starts.device)[:, None]
        self._column = starts[:, None] + torch.arange(width, device=starts.device)
        self._length = int(starts.max()) + width
        key = torch.arange(self._length, device=starts.device)
        seen = key <= self._column[:, None, :, None]
        behind = self._column[:, None, :, None] - key
        return {"position_ids": self._column, "attention_mask": self._masks(seen, behind), "past_key_values": self}

    def begin_trees(self, start: int, trees: Sequence[Sequence[int]], width: int) -> dict[str, Any]:
        """Prepare a run over the first rows in which several continuations of each are read side by side.

        Args:
            start: how many tokens of every row are here already; all new ones see them.
            trees: for each row, of each of its new tokens the number of the new token that it follows, a smaller one
                than its own; -1 where it follows the row. It sees that one and what it follows itself, and no other
                new token.
            width: how many new tokens each row gets; those that its tree does not name are padding.
        """
        device = self.layout.device
        sees = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)
        for row, parents in enumerate(trees):
            for token, parent in enumerate(parents):
                if parent >= 0:
                    sees[row, token] |= sees[row, parent]
        positions = (start - 1 + sees.sum(dim=2)).to(device)
        key_positions = torch.cat([torch.arange(start, device=device).expand(len(trees), -1), positions], dim=1)
        before = torch.ones(len(trees), width, start, dtype=torch.bool)
        seen = torch.cat([before, sees], dim=2).to(device)[:, None]
        self._row = torch.arange(len(trees), device=device)[:, None]
        self._column = (start + torch.arange(width, device=device)).expand(len(trees), -1)
        self._length = start + width
        behind = positions[:, None, :, None] - key_positions[:, None, None, :]
        return {"position_ids": positions, "attention_mask": self._masks(seen, behind), "past_key_values": self}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take in a layer's new keys and values `[b, heads, s, width]`; return all of them."""
        b = len(key_states)
        both = []
        for new, kept in zip((key_states, value_states), self._tensors[2 * layer_idx : 2 * layer_idx + 2], strict=True):
            kept[self._row, :, self._column] = new.transpose(1, 2)
            both.append(kept[:b, :, : self._length])
        return both[0], both[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - the same in every layer
        """Tokens of the longest row before this run."""
        return self._length - self._column.shape[-1] if self._length else 0

    def read(self, row: int, start: int, end: int) -> list[Tensor]:
        """A copy of a row's part, for `write`."""
        return [stack[:, row, :, start:end].clone() for stack in self._stacks]

    def write(self, row: int, start: int, parts: Sequence[list[Tensor]]) -> None:
        """Put what `read` returned, several in order, into a row."""
        for stack, pieces in zip(self._stacks, zip(*parts, strict=True), strict=True):
            place = start
            for piece in pieces:
                stack[:, row, :, place : place + piece.shape[2]] = piece
                place += piece.shape[2]

    def copy(self, source: KeyValueCache, source_row: int, row: int, length: int) -> None:
        """Make `row` the first `length` tokens of another cache's row."""
        for mine, other in zip(self._stacks, source._stacks, strict=True):
            mine[:, row, :, :length] = other[:, source_row, :, :length]

    def clear(self, row: int, length: int) -> None:
        """Zero the first `length` tokens of a row."""
        for stack in self._stacks:
            stack[:, row, :, :length] = 0

    def resized(self, rows: int, capacity: int) -> KeyValueCache:
        """Make a copy with more or less room; what does not fit is left out."""
        other = KeyValueCache(self.layout, rows, capacity)
        r, c = min(rows, self.rows), min(capacity, self.capacity)
        for mine, its in zip(self._stacks, other._stacks, strict=True):
            its[:, :r, :, :c] = mine[:, :r, :, :c]
        return other

    def _masks(self, seen: Tensor, behind: Tensor) -> Any:
        """What is added to attention scores `[b, 1, s, keys]`: 0 where a token may look, minus infinity elsewhere.

        Args:
            seen: whether a token may look at a key, as far as its window reaches.
            behind: how many positions the key is behind the token.
        """
        masks = {}
        for kind, window in self.layout.windows.items():
            near = seen if window is None else seen & (behind < window)
            mask = torch.zeros(near.shape, dtype=self.layout.dtype, device=near.device)
            masks[kind] = mask.masked_fill_(~near, float("-inf"))
        return masks if len(masks) > 1 else next(iter(masks.values()))


def cannot_batch(network: Network) -> str | None:
    """Why answers of this model cannot grow side by side in this cache; None where they can."""
    try:
        layout_of(network)
        for name in horizons.horizons(network):
            with horizons.brought_near(network, name):
                layout_of(network)
    except BaseModelError as error:
        return str(error)
    return None


@torch.inference_mode()
def layout_of(network: Network) -> Layout:
    """Learn the shapes by a trial run, and make sure that the decoder answers the same with this cache as without.

    Raises:
        BaseModelError: it does not, so that this server cannot generate with it.
    """
    windows = _windows(network)
    ids = torch.arange(_PROBE, device=network.device)
    embedded = network.embedding(ids[None])
    try:
        plain = network.decoder(inputs_embeds=embedded, use_cache=True)
        layers = plain.past_key_values.layers
        shapes = tuple((t.shape[1], t.shape[3]) for layer in layers for t in (layer.keys, layer.values))
        layout = Layout(shapes, windows, layers[0].keys.dtype, network.device)
        cache = KeyValueCache(layout, rows=1, capacity=_PROBE)
        pieces = []
        for start, end in ((0, _PROBE - 2), (_PROBE - 2, _PROBE - 1), (_PROBE - 1, _PROBE)):
            place = cache.begin(torch.tensor([start], device=network.device), end - start)
            pieces.append(network.decoder(inputs_embeds=embedded[:, start:end], use_cache=True, **place)[0])
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise _unsuitable(network, f"{type(error).__name__}: {error}") from error
    expected = logits_at(network.model, ids, {}, torch.arange(_PROBE))
    if not close(network.logits(torch.cat(pieces, dim=1))[0], expected):
        raise _unsuitable(network, "its logits differ when they are computed in parts")
    return layout


def _windows(network: Network) -> dict[str, int | None]:
    config = network.decoder.config
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise _unsuitable(network, f"it has layers of the type {', '.join(sorted(unknown))}")
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


def _unsuitable(network: Network, why: str) -> BaseModelError:
    return BaseModelError(
        f"the base model {network.base.name!r} cannot generate here: this server needs a causal decoder whose layers "
        f"keep keys and values of every token ({type(network.decoder).__name__}: {why})"
    )
