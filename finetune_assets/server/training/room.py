"""Whether a training has room in memory, and how much may pass at once: found before it starts, by its footprint.

On a CPU all trainings pass alike unless that cannot fit, so that the same job gives the same weights. On a GPU as much
passes at once as there is room for: a Llama of 7.4 billion weights learned twice as many tokens a second with 16,384 at
once as with 4,096 on an H200.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.devices import cuda_devices, ram_bytes

if TYPE_CHECKING:
    from finetune_assets.server.training.footprint import Footprint

TOKENS_AT_ONCE = {"cpu": (1024,), "cuda": (16_384, 8192, 4096)}
"""That may pass through the model together, padding included, the most first; a batch of more is added up from parts.

On a CPU 1,024 keep what a layer makes in the caches: SmolLM2-135M learned a quarter more tokens a second than with
2,048. They also bound the memory, whatever batch size a client asks for."""
ERROR = 0.1
"""By how much, relatively, a footprint may be wrong (`test_footprint.py`)."""
PROCESS = 5 * 2**28
"""Bytes of a process with PyTorch and what its allocator holds unused, or of a GPU's context and libraries."""
_SHORTEST = 64
"""A context of fewer tokens is not worth naming."""


class TooLargeError(FinetuneAssetsError, ValueError):
    """A training cannot fit into this machine's memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How examples pass through the model."""

    tokens_at_once: int
    recompute: bool = False
    """Whether activations are computed again in the backward pass, because there is no room to keep them."""
    n_bytes: int | None = None
    """What it takes; None where that was not found out."""

    @property
    def told(self) -> str:
        """In words."""
        taken = f", in about {_gb(self.n_bytes)}" if self.n_bytes else ""
        told = f"Up to {self.tokens_at_once:,} tokens pass at once{taken}"
        return f"{told}, with activations computed twice: there is no room to keep them" if self.recompute else told


@dataclass(frozen=True, slots=True)
class Room:
    """A device's memory, in bytes."""

    device: str
    total: int
    free: int

    @classmethod
    def here(cls) -> Room:
        """That of the GPU where there is one, else this machine's, of which all counts as free: jobs give the same."""
        if cuda_devices():
            import torch

            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                return cls("cuda", total, free)
        return cls("cpu", ram_bytes(), ram_bytes())


def plan(base: BaseModel, longest: int, rank: int | None, room: Room) -> Plan:
    """The fastest way to train that has room; the smallest of all if none has now, but one would have otherwise.

    Args:
        base: what is trained.
        longest: tokens of the longest example, or of both answers of a pair.
        rank: of the LoRA layers; None for our own.
        room: what there is.

    Raises:
        TooLargeError: none can fit, whatever else goes on; the message says what would.
    """
    usual = TOKENS_AT_ONCE[room.device]
    if _needs_no_look(base, max(usual[0], longest), rank, room.free):
        return Plan(usual[0])
    found = Plan(usual[-1])
    for tokens, recompute in _ways(usual, longest):
        size = _size(base, max(tokens, longest), rank, recompute)
        if size is None:
            return Plan(usual[-1])
        found = Plan(tokens, recompute, size)
        if size * (1 + ERROR) <= room.free:
            return found
    if found.n_bytes is not None and found.n_bytes * (1 - ERROR) > room.total:
        raise TooLargeError(_told(base, longest, rank, room, found.n_bytes))
    return found


def _ways(usual: tuple[int, ...], longest: int) -> Iterator[tuple[int, bool]]:
    """Tokens at once and whether to recompute, the fastest first; the last takes examples one by one."""
    yield from ((tokens, False) for tokens in usual)
    yield usual[-1], True
    if longest < usual[-1]:
        yield longest, True


def _size(base: BaseModel, tokens: int, rank: int | None, recompute: bool) -> int | None:
    found = _footprint(base, tokens, rank, recompute)
    return found and found.total + PROCESS


@lru_cache(maxsize=64)
def _footprint(base: BaseModel, tokens: int, rank: int | None, recompute: bool) -> Footprint | None:
    from finetune_assets.server.training.footprint import footprint

    try:
        return footprint(base, tokens=tokens, rank=rank, recompute=recompute)
    except Exception:  # noqa: BLE001 - a family's code may want numbers; then it is tried as it is
        return None


def _told(base: BaseModel, longest: int, rank: int | None, room: Room, n_bytes: int) -> str:
    where = "its GPU" if room.device == "cuda" else "it"
    told = (
        f"the model {base.name!r} cannot be trained on this machine with examples of {longest:,} tokens: one by one and"
        f" with activations computed twice they take about {_gb(n_bytes)}, and {where} has {_gb(room.total)}"
    )
    remedies = []
    if (context := _context_that_fits(base, longest, rank, room)) >= _SHORTEST:
        remedies.append(f"set context_length to {context:,} or less")
    size = _footprint(base, longest, rank=1, recompute=True)
    if size and (size.total + PROCESS) * (1 + ERROR) <= room.total:
        remedies.append("lower lora_r")
    if not (base.four_bit or base.bundled) and _fits_in_four_bit(base, longest, rank, room):
        remedies.append("set load_in_4bit: true beside it in models.yaml")
    return f"{told}; {' or '.join([*remedies, 'choose a smaller model'])}"


def _fits_in_four_bit(base: BaseModel, longest: int, rank: int | None, room: Room) -> bool:
    size = _size(replace(base, four_bit=True), longest, rank, recompute=True)
    return size is not None and size * (1 + ERROR) <= room.total


def _context_that_fits(base: BaseModel, longest: int, rank: int | None, room: Room) -> int:
    """The longest that does: what is held grows in proportion to the tokens."""
    least, most = (_size(base, tokens, rank, recompute=True) for tokens in (_SHORTEST, longest))
    if least is None or most is None or longest <= _SHORTEST:
        return 0
    room_for = (room.total / (1 + ERROR) - least) * (longest - _SHORTEST) / (most - least)
    return _SHORTEST * (1 + int(room_for // _SHORTEST))


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"


def _needs_no_look(base: BaseModel, tokens: int, rank: int | None, free: int) -> bool:
    """Whether it is so small that its footprint, which takes a second, need not be found.

    By a bound on what layers of attention keep of each token, twice what those of Llamas do; None of others is known.
    """
    folder = Path(base.path)
    try:
        config = json.loads((folder / "config.json").read_text())
        numbers = [config[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")]
    except (OSError, ValueError, KeyError):
        return False
    if any("expert" in name for name in config) or not all(isinstance(number, int) for number in numbers):
        return False  # layers may differ, and have a list of sizes
    depth, width, inner, n_words = numbers
    weights = 2 * sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    kept = 4 * depth * tokens * (8 * inner + 32 * width)
    trained = 4 * 6 * (rank or 16) * depth * (12 * width + 3 * inner)
    return PROCESS + weights + kept + trained + 16 * tokens * n_words <= free
