"""How many threads a trainer computes on: all cores while it is the only one, else its share.

A job must give the same weights whether or not others ran beside it. The number of threads decides in which order a
library adds up, and so the last bits of a sum; MKL's strict mode keeps its products the same, but a model is more than
products. So before its first step the gradients of some of its own examples are computed on both numbers of threads.
Where they differ by a bit, the trainer keeps to its share throughout.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from finetune_assets.server.database.jobs import RUNNING
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.devices import cores, threads_per_process

SAME_BITS = ("MKL_CBWR", "AUTO,STRICT")
"""Environment variable and value of MKL's strict mode; MKL reads it at its first product."""
Gradients = Callable[[], list[Tensor]]
"""Computes the gradients of sample batches anew."""


class Threads:
    """Sets the number of this process's compute threads.

    `stores` tell how many jobs are training, `own` is how many of them at most are this process's.
    """

    def __init__(self, stores: Stores, own: int = 1) -> None:
        self._stores = stores
        self._own = own
        self._share = threads_per_process()
        self._free = self._share
        self.adjust()

    def choose(self, gradients: Gradients) -> None:
        """Find out whether this training may move between numbers of threads."""
        self._free = cores() if same_bits(gradients, self._share, cores()) else self._share
        self.adjust()

    def adjust(self) -> None:
        """Take as many threads as are free now."""
        import torch

        torch.set_num_threads(self._free if self._stores.jobs.count(RUNNING) <= self._own else self._share)


def same_bits(gradients: Gradients, few: int, many: int) -> bool:
    """Whether gradients are equal, bit by bit, on `few` threads and on `many`."""
    import torch

    if few == many:
        return True
    found: list[list[Tensor]] = []
    for number in (few, many):
        torch.set_num_threads(number)
        found.append(gradients())
    return all(torch.equal(*pair) for pair in zip(*found, strict=True))
