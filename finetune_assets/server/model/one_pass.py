"""A beginning that many rows share, and what follows it in each, in one pass over the decoder's weights.

All tokens lie in one row, so that every matrix is read once for all of them, and products are as large as they can be.
Only attention looks from token to token: it runs block by block, on what a pass for each block would give it. So do the
LoRA layers, whose gradients are sums over tokens. Where a product's rows do not depend on how many there are (MKL's
strict mode, for example) states and gradients are those of a pass for each block, bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from finetune_assets.server.model.packed import told_by_positions

if TYPE_CHECKING:
    from finetune_assets.server.model.network import Network

BLOCKS = "finetune_assets_blocks"
"""Attention block by block, as transformers knows it once it is registered."""
_ADAPTER = "default"


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one length that lie one after the other, from `start` on."""

    start: int
    rows: int
    width: int
    before: slice | None
    """Tokens that all of them follow."""

    @property
    def place(self) -> slice:
        """Its tokens."""
        return slice(self.start, self.start + self.rows * self.width)


class OnePass:
    """Runs the decoder of a network that has its LoRA layers."""

    def __init__(self, network: Network) -> None:
        self._decoder = network.decoder
        self._blocks: Sequence[Block] = ()
        register()
        self._decoder.config._attn_implementation = BLOCKS
        for layer in adapted(network).values():
            layer.forward = partial(self._by_blocks, layer)

    @classmethod
    def of(cls, network: Network) -> OnePass | None:
        """Prepare a network; None for one whose tokens may be told where they are by more than their positions."""
        return cls(network) if told_by_positions(network) and not drops(network) else None

    def states(self, embedded: Tensor, shared: int) -> Tensor:
        """Last hidden states `[b, s - shared, d]` of rows `[b, s, d]` that all begin with the same `shared` tokens."""
        b, s, d = embedded.shape
        width = s - shared
        beginning = Block(0, 1, shared, None)
        rest = Block(shared, b, width, beginning.place)
        row = torch.cat([embedded[:1, :shared], embedded[:, shared:].reshape(1, -1, d)], dim=1)
        positions = torch.cat([torch.arange(shared), torch.arange(shared, s).repeat(b)])[None].to(row.device)
        as_it_is = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=row.device)  # a mask that nothing looks at
        self._blocks = (beginning, rest)
        try:
            run = self._decoder(
                inputs_embeds=row, position_ids=positions, attention_mask=as_it_is, use_cache=False, blocks=self._blocks
            )
        finally:
            self._blocks = ()
        return run.last_hidden_state[0, rest.place].unflatten(0, (b, width))

    def _by_blocks(self, layer: Any, x: Tensor, *others: Any, **named: Any) -> Tensor:
        """The forward of a LoRA layer."""
        if not self._blocks:
            return type(layer).forward(layer, x, *others, **named)
        given = layer.base_layer(x)  # first, as PEFT does: in this order gradients are added up
        more = torch.cat([added(layer, x[:, block.place]) for block in self._blocks], dim=1)
        return (given + more).to(given.dtype)  # LoRA's own is float32 beside any base


def adapted(network: Network) -> dict[str, Any]:
    """PEFT's LoRA layers in the decoder, by their place in it."""
    return {name: module for name, module in network.decoder.named_modules() if hasattr(module, "lora_A")}


def drops(network: Network) -> bool:
    """Whether dropout leaves out some of what LoRA layers see, which is drawn pass by pass."""
    return any(isinstance(m, nn.Dropout) for layer in adapted(network).values() for m in layer.lora_dropout.values())


def added(layer: Any, x: Tensor) -> Tensor:
    """What a LoRA layer adds to the output of the layer that it stands around."""
    x = x.to(layer.lora_A[_ADAPTER].weight.dtype)
    return layer.lora_B[_ADAPTER](layer.lora_A[_ADAPTER](x)) * layer.scaling[_ADAPTER]


def register() -> None:
    """Make `BLOCKS` known to transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(BLOCKS, _attend)
    AttentionMaskInterface.register(BLOCKS, sdpa_mask)  # for what passes in no blocks


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    blocks: Sequence[Block] = (), **named: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of `[1, heads, t, d]`, each block by itself; of rows as they are where there are none."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not blocks:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **named)
    found = []
    for block in blocks:
        q, k, v = (_rows_of(tensor, block) for tensor in (query, key, value))
        mask = None
        if block.before is not None:
            k, v = (
                torch.cat([tensor[:, :, block.before].expand(block.rows, -1, -1, -1), own], dim=2)
                for tensor, own in ((key, k), (value, v))
            )
            seen = torch.ones(block.width, k.shape[2], dtype=torch.bool, device=k.device)
            mask = seen.tril(k.shape[2] - block.width).expand(block.rows, 1, -1, -1)
        attended, _ = sdpa_attention_forward(module, q, k, v, mask, **named)
        found.append(attended.flatten(0, 1)[None])
    return torch.cat(found, dim=1), None


def _rows_of(tensor: Tensor, block: Block) -> Tensor:
    """`[rows, heads, width, d]` of `[1, heads, t, d]`."""
    return tensor[0, :, block.place].unflatten(1, (block.rows, block.width)).transpose(0, 1)
