"""Keys and values of blocks of tokens that prompts have in common, kept by content within a memory budget."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor


class PrefixCache:
    """Blocks by the key of their content, which covers everything before them too (see `completion.block_keys`)."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._blocks: OrderedDict[bytes, list[Tensor]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Memory of all blocks; at most the budget."""
        return self._bytes

    def find(self, keys: list[bytes]) -> list[list[Tensor]]:
        """The blocks of the longest known beginning of `keys`.

        Later blocks count as used before earlier ones: they are of no use without them.
        """
        found = []
        for key in keys:
            if key not in self._blocks:
                break
            found.append(self._blocks[key])
        for key in reversed(keys[: len(found)]):
            self._blocks.move_to_end(key)
        return found

    def add(self, key: bytes, block: list[Tensor]) -> None:
        """Keep a block; those unused for longest make room."""
        if key in self._blocks:
            return
        self._blocks[key] = block
        self._bytes += _size(block)
        while self._bytes > self._budget:
            _, oldest = self._blocks.popitem(last=False)
            self._bytes -= _size(oldest)

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._bytes = 0


def _size(block: list[Tensor]) -> int:
    return sum(part.nbytes for part in block)
