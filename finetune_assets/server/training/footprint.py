"""How much memory a training takes, found without its weights: its own code runs on tensors that hold nothing.

PyTorch's `meta` device knows shapes and computes none of the numbers, so a model of any size passes forward and
backward in a second, and what would be in memory at each moment is added up. Whatever the family does, its kept
activations are counted and not guessed. On an H200 a Llama of 7.4 billion weights took 37 and 107 GiB with 4,096 and
16,384 tokens at once; 37 and 101 are found here (`test_footprint.py`), where the loss is computed in pieces. On a CPU a
process that trained SmolLM2-135M in float32 on examples of 1,834 tokens took 4.65 GB, and 4.50 are found.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model import adapters, four_bit
from finetune_assets.server.model.network import Network, hollow
from finetune_assets.server.model.packed import Packed
from finetune_assets.server.training.examples import Example
from finetune_assets.server.training.objectives import Supervised

COPIES = 5
"""Of what is trained, beside its gradients: weights, two moments, their mean and what was best."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes."""

    base: int
    """Of the base model's weights."""
    trained: int
    """Of the weights that training moves, with what the optimiser keeps of them."""
    passes: int
    """The most that a forward and a backward pass hold at once beside these, gradients included."""

    @property
    def total(self) -> int:
        """All of it together."""
        return self.base + self.trained + self.passes


class Ledger(TorchDispatchMode):
    """Adds up the bytes of all tensors that are made meanwhile and not yet gone; `peak` is the most at once."""

    def __init__(self, *, known: list[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._found: dict[int, weakref.ref[Any]] = {}
        for tensor in known:
            self._enter(tensor, counted=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._enter(leaf)
        return made

    def _enter(self, tensor: Tensor, *, counted: bool = True) -> None:
        storage = tensor.untyped_storage()
        place, n_bytes = id(storage), storage.nbytes() if counted else 0
        if place in self._found and self._found[place]() is storage:
            return
        self.live += n_bytes
        self.peak = max(self.peak, self.live)
        self._found[place] = weakref.ref(storage, lambda _: self._leave(place, n_bytes))

    def _leave(self, place: int, n_bytes: int) -> None:
        self.live -= n_bytes
        self._found.pop(place, None)


def footprint(base: BaseModel, *, tokens: int, rank: int | None = None, recompute: bool = False) -> Footprint:
    """What a training takes that passes so many tokens through the model at once and learns each of them.

    Args:
        base: what is trained.
        tokens: that pass together.
        rank: of the LoRA layers; None for our own.
        recompute: whether layers keep only what goes into them.

    Raises:
        Exception: whatever the family's code raises where it cannot run without numbers.
    """
    network = hollow(base)
    with torch.device("meta"):
        trained = adapters.add_trainable(network, None, with_images=False, rank=rank)["lora"]
    if recompute:
        network.recompute()
    if network.decoder.config._attn_implementation == "sdpa":  # attention that keeps no scores, as on a real device
        network.packed = Packed(network)
        network.packed.always = True
    parameters = list(network.model.parameters())
    return Footprint(
        base=four_bit.n_bytes(network.model),
        trained=COPIES * sum(p.nbytes for p in trained),
        passes=passes(network, tokens, known=[*parameters, *network.model.buffers()]),
    )


def passes(network: Network, tokens: int, known: list[Tensor]) -> int:
    """The most bytes that a forward and a backward pass of one example hold at once, `known` tensors excluded."""
    learned = torch.ones(tokens + 1, dtype=torch.bool)
    example = Example(torch.zeros(tokens + 1, dtype=torch.int32), learned, [])
    network.trimmed = True
    with Ledger(known=known) as ledger:
        loss, _ = Supervised(network).losses([example])
        (loss / tokens).backward()
    return ledger.peak
