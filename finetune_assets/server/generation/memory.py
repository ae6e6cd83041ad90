"""How much memory serving may take on this machine, and how much work goes into one step."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one base model."""

    rows: int
    """Answers that grow at the same time. More would make each slower without more tokens a second."""
    rows_bytes: int
    """Of the keys and values of these answers. A single answer may exceed it."""
    prefixes: int
    """Bytes of the prefix cache."""
    adapters: int
    """Bytes of adapters that are not in use."""
    images: int
    """Bytes of image features that are kept."""
    chunk: int
    """Tokens of prompts that are read in one step: the longest wait of a row for its next token."""


def budget(device: torch.device) -> Budget:
    """The limits on this machine."""
    mb = 2**20
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        return Budget(
            rows=128, rows_bytes=free // 2, prefixes=free // 8, adapters=free // 16, images=1024 * mb, chunk=8192
        )
    rows_bytes = psutil.virtual_memory().total // 8
    return Budget(rows=32, rows_bytes=rows_bytes, prefixes=512 * mb, adapters=256 * mb, images=128 * mb, chunk=512)
