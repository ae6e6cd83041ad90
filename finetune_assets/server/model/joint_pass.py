"""Rows of several networks over the same frozen weights, each with LoRA layers of its own, in one pass.

All tokens lie in one row, so that the weights that the networks have in common are read once for all of them, and a GPU
is told once what to do. What tells them apart runs part by part: the LoRA layers, and attention. No token of one part
comes near those of another, so that a part whose numbers are no longer finite spoils no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from finetune_assets.server.model import one_pass, packed
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.one_pass import Block


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one network."""

    owner: int
    """Its number."""
    embedded: Tensor
    """`[b, s, d]`."""
    shared: int
    """With how many tokens all of them begin."""

    @property
    def n_tokens(self) -> int:
        """Those that pass."""
        b, s, _ = self.embedded.shape
        return self.shared + b * (s - self.shared)

    def row(self) -> Tensor:
        """`[1, t, d]`: what all begin with, and what follows it in each."""
        rest = self.embedded[:, self.shared :].reshape(1, -1, self.embedded.shape[-1])
        return torch.cat([self.embedded[:1, : self.shared], rest], dim=1)

    def positions(self) -> Tensor:
        """`[t]`."""
        b, s, _ = self.embedded.shape
        return torch.cat([torch.arange(self.shared), torch.arange(self.shared, s).repeat(b)])

    def blocks(self, start: int) -> list[Block]:
        """Where they lie in a row in which they begin at `start`."""
        b, s, _ = self.embedded.shape
        if not self.shared:
            return [Block(start, b, s, None)]
        beginning = Block(start, 1, self.shared, None)
        return [beginning, Block(start + self.shared, b, s - self.shared, beginning.place)]


class JointPass:
    """Runs the decoder of a network without LoRA layers for `networks` that have some, its twins (`Network.twin`)."""

    def __init__(self, frozen: Network, networks: Mapping[int, Network]) -> None:
        self._decoder = frozen.decoder
        self._segments: list[tuple[int, slice]] = []
        """Whose tokens lie where in the row that passes; kept until the next, as layers may run once more."""
        one_pass.register()
        packed.register()
        layers = {owner: one_pass.adapted(network) for owner, network in networks.items()}
        for name in next(iter(layers.values())):
            module = frozen.decoder.get_submodule(name)
            module.forward = partial(
                self._by_owner, module.forward, {owner: own[name] for owner, own in layers.items()}
            )

    @classmethod
    def of(cls, frozen: Network, networks: Mapping[int, Network]) -> JointPass | None:
        """Prepare it; None where a pass by parts would not be what each of the networks does."""
        alike = len({tuple(one_pass.adapted(network)) for network in networks.values()}) == 1
        if not (alike and packed.told_by_positions(frozen)) or any(map(one_pass.drops, networks.values())):
            return None
        if any(network.recomputes for network in networks.values()):
            frozen.recompute()
        return cls(frozen, networks)

    def states(self, parts: Sequence[Rows]) -> list[Tensor]:
        """Last hidden states `[b, s - shared, d]` of each part."""
        starts = [0, *accumulate(part.n_tokens for part in parts)]
        blocks = [part.blocks(start) for part, start in zip(parts, starts, strict=False)]
        self._segments = [(part.owner, block.place) for part, own in zip(parts, blocks, strict=True) for block in own]
        self._decoder.config._attn_implementation = one_pass.BLOCKS
        row, positions = torch.cat([part.row() for part in parts], dim=1), torch.cat([p.positions() for p in parts])
        states = self._run(row, positions, blocks=[block for own in blocks for block in own])
        rests = [own[-1] for own in blocks]
        return [states[rest.place].unflatten(0, (rest.rows, rest.width)) for rest in rests]

    def packed_states(
        self, owners: Sequence[int], embedded: Sequence[Tensor], lengths: Sequence[list[int]]
    ) -> list[Tensor]:
        """Last hidden states `[t, d]` of each owner's rows, which lie behind one another in `[t, d]`, each so long."""
        borders = [0, *accumulate(map(len, embedded))]
        self._segments = [(owner, slice(*place)) for owner, place in zip(owners, pairwise(borders), strict=True)]
        self._decoder.config._attn_implementation = packed.PACKED
        all_lengths = [length for own in lengths for length in own]
        positions = torch.cat([torch.arange(length) for length in all_lengths])
        rows = packed.Rows(all_lengths, embedded[0].device)
        return list(
            self._run(torch.cat(list(embedded))[None], positions, rows=rows).split([len(own) for own in embedded])
        )

    def _run(self, row: Tensor, positions: Tensor, **how: Any) -> Tensor:
        as_it_is = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=row.device)  # a mask that nothing looks at
        where = positions[None].to(row.device)
        return self._decoder(
            inputs_embeds=row, position_ids=where, attention_mask=as_it_is, use_cache=False, **how
        ).last_hidden_state[0]

    def _by_owner(self, base: Any, layers: Mapping[int, Any], x: Tensor) -> Tensor:
        """The forward of a layer around which each network has a LoRA layer."""
        given = base(x)
        more = torch.cat([one_pass.added(layers[owner], x[:, place]) for owner, place in self._segments], dim=1)
        return (given + more).to(given.dtype)  # LoRA's own is float32 beside any base
