"""Rows of any length behind one another, without padding: each has its own positions, and attention sees no other.

On a GPU attention is a kernel of PyTorch that is told where rows begin; on a CPU it runs row by row, to the same end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from finetune_assets.server.model.network import Network

PACKED = "finetune_assets_packed"
"""Attention of packed rows, as transformers knows it once it is registered."""


class Packed:
    """Runs the decoder of a network over packed rows."""

    def __init__(self, network: Network) -> None:
        self.always = False
        """Whether to pack even what has fewer tokens otherwise: while it is tried."""
        self._decoder = network.decoder
        register()
        self._decoder.config._attn_implementation = PACKED  # for good: layers may run again in the backward pass

    @classmethod
    def of(cls, network: Network) -> Packed | None:
        """Prepare a network; None for one whose tokens may be told where they are by more than their positions."""
        return cls(network) if told_by_positions(network) else None

    def pays(self, lengths: Sequence[int], shared: int) -> bool:
        """Whether packed rows have no more tokens than padded ones of which the `shared` first pass once."""
        return self.always or sum(lengths) <= shared + len(lengths) * (max(lengths) - shared)

    def states(self, embedded: Tensor, lengths: Sequence[int]) -> Tensor:
        """Last hidden states `[t, d]` of rows that lie behind one another in `[t, d]`, each so long."""
        device = embedded.device
        positions = torch.cat([torch.arange(length) for length in lengths])[None].to(device)
        as_it_is = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)  # a mask that nothing looks at
        run = self._decoder(
            inputs_embeds=embedded[None], position_ids=positions, attention_mask=as_it_is, use_cache=False,
            rows=Rows(lengths, device),
        )  # fmt: skip
        return run.last_hidden_state[0]


class Rows:
    """Where rows begin and end among `t` tokens."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.borders = [0, *accumulate(lengths)]
        self.longest = max(lengths)
        self.on_device = torch.tensor(self.borders, dtype=torch.int32, device=device)


def told_by_positions(network: Network) -> bool:
    """Whether attention looks at all tokens before one, and knows where they are by their positions alone."""
    config = network.decoder.config
    plain = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    ours = getattr(config, "_attn_implementation", None) == "sdpa" and not getattr(config, "sliding_window", None)
    return plain and ours and not network.whole


def register() -> None:
    """Make `PACKED` known to transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(PACKED, _attend)
    AttentionMaskInterface.register(PACKED, sdpa_mask)  # for what is not packed


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    *, rows: Rows | None = None, scaling: float | None = None, **named: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of `[1, heads, t, d]`, each row by itself; of padded rows as they are. Returns `[1, t, heads, d]`."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **named)
    if query.device.type == "cpu":
        alone = [
            sdpa_attention_forward(module, q, k, v, None, scaling=scaling, **named)[0]
            for begin, end in pairwise(rows.borders)
            for q, k, v in [[tensor[:, :, begin:end] for tensor in (query, key, value)]]
        ]
        return torch.cat(alone, dim=1), None
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    borders, longest = rows.on_device, rows.longest
    causal, grouped = (-1, 0), query.shape[1] != key.shape[1]
    attended: Any = varlen_attn(
        q, k, v, borders, borders, longest, longest, scale=scaling, window_size=causal, enable_gqa=grouped
    )
    return attended[None], None
