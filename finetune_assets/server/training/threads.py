"""How many threads a trainer computes on: all cores while it is the only one, else its share.

A job must give the same weights whether or not others ran beside it. By default the number of threads decides in which
order MKL adds products up, and so the last bits of a sum; in its strict mode (no slower in our measurements) it does
not. Where the results differ all the same, on another library or processor, a trainer keeps to its share throughout.
"""

from __future__ import annotations

from finetune_assets.server.database.jobs import RUNNING
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.devices import cores, threads_per_process

SAME_BITS = ("MKL_CBWR", "AUTO,STRICT")
"""Environment variable and value of MKL's strict mode; MKL reads it at its first product."""
_SHAPES = ((300, 576, 1536), (300, 1536, 576), (900, 64, 900), (576, 16, 300))


class Threads:
    """Sets the number of this process's compute threads; `stores` tell how many jobs are training."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._share = threads_per_process()
        self._free = cores() if same_bits(cores()) else self._share
        self.adjust()

    def adjust(self) -> None:
        """Take as many threads as are free now."""
        import torch

        torch.set_num_threads(self._free if self._stores.jobs.count(RUNNING) == 1 else self._share)


def same_bits(threads: int) -> bool:
    """Whether matrix products of a model's shapes are equal, bit by bit, on one thread and on `threads`."""
    import torch

    from finetune_assets.server.model.precision import device_and_dtype

    _device, dtype = device_and_dtype()
    generator = torch.Generator().manual_seed(0)
    for rows, inner, columns in _SHAPES:
        left = torch.randn(rows, inner, generator=generator).to(dtype)
        right = torch.randn(columns, inner, generator=generator).to(dtype)
        found = []
        for n in (1, threads):
            torch.set_num_threads(n)
            found.append(left @ right.T)
        if not torch.equal(*found):
            return False
    return True
