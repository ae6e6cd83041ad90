"""Image features on disk, so that a training file of any size trains in the same memory, and a resumed job sees again.

`features.bin` holds float32 rows one image after the other, `features.jsonl` a line for each: key, where it begins,
shape and checksum. Both only grow, and the line is written last: whatever a killed process leaves half-written has no
line, or no complete one, and is overwritten.
"""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors.torch import save
from torch import Tensor

from finetune_assets.server.model.chat_encoding import ImageFeatures
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.vision import one_thread

_CACHE_BYTES = 1 << 20
_ITEM_BYTES = 4


class FeatureFile:
    """The features of a job's images by their URL. First `add` all images, then take them with `of`."""

    def __init__(self, network: Network, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._made = ImageFeatures(network, budget_bytes=_CACHE_BYTES)
        self._model = f"{network.base.path} {network.dtype}"
        self._bin, self._index = folder / "features.bin", folder / "features.jsonl"
        self._places: dict[bytes, tuple[int, list[int]]] = {}
        self._end = 0
        self._mapped = np.empty(0, np.float32)
        self._read_index()

    def add(self, url: str) -> None:
        """Compute the features of this image unless they are there.

        Raises:
            PromptError: the model takes no images, or this is not one it can read.
        """
        key = self._key(url)
        if key in self._places:
            return
        with one_thread():  # a job's features must be the same every time
            features = self._made.of(url).contiguous().numpy()
        data = features.tobytes()
        with self._bin.open("ab") as file:
            file.write(data)
        line = {"key": key.hex(), "start": self._end, "shape": features.shape, "crc32": zlib.crc32(data)}
        with self._index.open("ab") as file:
            file.write(orjson.dumps(line) + b"\n")
        self._places[key] = (self._end, list(features.shape))
        self._end += features.size

    def of(self, data_url: str, /) -> Tensor:
        """`[slots, d_features]` of an image, read from disk when it is looked at; added if it is missing.

        Raises:
            PromptError: as `add`.
        """
        self.add(data_url)
        if len(self._mapped) < self._end:
            # Copy-on-write, because torch warns of arrays that cannot be written to.
            self._mapped = np.memmap(self._bin, np.float32, mode="c")
        start, shape = self._places[self._key(data_url)]
        return torch.from_numpy(self._mapped[start : start + math.prod(shape)].reshape(shape))

    def keep(self, extras: dict[str, Tensor]) -> Path:
        """Keep what a model's own forward takes beside an example's ids, and say where."""
        data = save({name: value.contiguous() for name, value in extras.items()})
        kept = self._bin.with_name(f"extras-{hashlib.sha256(data).hexdigest()[:32]}.safetensors")
        if not kept.exists():
            scratch = kept.with_suffix(".partial")
            scratch.write_bytes(data)
            scratch.rename(kept)
        return kept

    def _key(self, url: str) -> bytes:
        return hashlib.sha256(f"{self._model} {url}".encode()).digest()

    def _read_index(self) -> None:
        """Take over what an earlier process has completed, and cut off what it has not."""
        if not self._index.exists():
            return
        kept = 0
        with self._index.open("rb+") as index, self._bin.open("rb+") as rows:
            for line in index:
                entry = _complete(line, rows, self._end)
                if entry is None:
                    break
                self._places[bytes.fromhex(entry["key"])] = (self._end, entry["shape"])
                self._end += math.prod(entry["shape"])
                kept += len(line)
            for file, size in ((index, kept), (rows, self._end * _ITEM_BYTES)):
                if file.seek(0, os.SEEK_END) != size:
                    file.truncate(size)


def _complete(line: bytes, rows: Any, start: int) -> dict[str, Any] | None:
    """Parse an index line whose features follow those before it and are as they were written; None for any other."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    data = rows.read(math.prod(entry["shape"]) * _ITEM_BYTES)
    return entry if entry["start"] == start and entry["crc32"] == zlib.crc32(data) else None
