"""How much memory serving may take on this machine, and how much work goes into one step."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.devices import ram_bytes
from finetune_assets.server.model import four_bit
from finetune_assets.server.model.network import hollow
from finetune_assets.server.model.precision import device_and_dtype

_SHARE_OF_WEIGHTS = 0.5
"""Of the memory; the rest is for keys and values, for training and for others."""
_WEIGHTS = ("*.safetensors", "*.bin")


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


def weights_limit() -> int:
    """Bytes that the weights of all base models may take together on this machine."""
    device, _dtype = device_and_dtype()
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _SHARE_OF_WEIGHTS)
    return int(ram_bytes() * _SHARE_OF_WEIGHTS)


def weight_bytes(base: BaseModel) -> int:
    """What a model's weights will take, as its files tell; 0 where they are not on this machine yet."""
    if base.four_bit:
        with suppress(OSError, ValueError):
            return four_bit.n_bytes(hollow(base).model)
        return 0
    from transformers import AutoConfig
    from transformers.utils.hub import cached_file

    try:
        config = AutoConfig.from_pretrained(base.path, revision=base.revision, local_files_only=True)
        found = cached_file(base.path, "config.json", revision=base.revision, local_files_only=True)
    except (OSError, ValueError):
        return 0
    folder = Path(str(found)).parent
    files = next((files for kind in _WEIGHTS if (files := list(folder.glob(kind)))), [])
    stored, (_device, dtype) = getattr(config, "dtype", None), device_and_dtype()
    growth = dtype.itemsize / stored.itemsize if isinstance(stored, torch.dtype) else 1
    return int(sum(file.stat().st_size for file in files) * growth)


def budget(device: torch.device) -> Budget:
    """The limits on this machine."""
    mb = 2**20
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        return Budget(
            rows=128, rows_bytes=free // 2, prefixes=free // 8, adapters=free // 16, images=1024 * mb, chunk=8192
        )
    rows_bytes = ram_bytes() // 8
    return Budget(rows=32, rows_bytes=rows_bytes, prefixes=512 * mb, adapters=256 * mb, images=128 * mb, chunk=512)
