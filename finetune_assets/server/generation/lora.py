"""Fine-tuned models beside their base: LoRA layers that differ from row to row of one batch.

An adapter is read from its folder (PEFT's format, see `adapters`) without PEFT, whose layers know one adapter
per batch. The matrices of all adapters in use lie side by side; a row's product is kept in the columns of its own
adapter and zero in the others, so that base and adapters cost two small products together.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finetune_assets.errors import BaseModelError
from finetune_assets.server import checksums
from finetune_assets.server.model.adapters import check_base, read_projector
from finetune_assets.server.model.network import Network

_WEIGHTS = "adapter_model.safetensors"
_REFUSED = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "layer_replication")
"""Settings of PEFT that this server's training never makes, and that would change what the matrices mean."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """The trained part of one fine-tuned model, in memory."""

    key: str
    """Changes when the files do."""
    layers: dict[str, tuple[Tensor, Tensor]]
    """For each adapted module A `[rank, in]` and B `[out, rank]`, already scaled."""
    projector: dict[str, Tensor] | None
    """State of the vision projector; None: the base model's."""

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        matrices = [matrix for pair in self.layers.values() for matrix in pair]
        return sum(tensor.nbytes for tensor in [*matrices, *(self.projector or {}).values()])


class AdapterShelf:
    """Adapters of one base model; those not in use go when memory runs short, least recently used first."""

    def __init__(self, network: Network, budget_bytes: int) -> None:
        self._network = network
        self._modules = dict(network.model.named_modules())
        self._budget = budget_bytes
        self._loaded: OrderedDict[str, Adapter] = OrderedDict()
        self._users: Counter[str] = Counter()
        self._lock = threading.Lock()

    def acquire(self, folder: Path) -> Adapter:
        """Load the adapter in `folder` unless it is here, and keep it until `release`.

        Raises:
            BaseModelError: its files are gone, broken, or not of a kind this server writes.
        """
        with self._lock:
            key = _identity(folder)
            if key not in self._loaded:
                self._loaded[key] = _read(folder, key, self._network, self._modules)
            self._loaded.move_to_end(key)
            self._users[key] += 1
            self._evict()
            return self._loaded[key]

    def release(self, adapter: Adapter) -> None:
        """One user less."""
        with self._lock:
            self._users[adapter.key] -= 1
            self._evict()

    def _evict(self) -> None:
        total = sum(adapter.bytes for adapter in self._loaded.values())
        for key, adapter in list(self._loaded.items()):
            if total <= self._budget:
                break
            if not self._users[key]:
                del self._loaded[key], self._users[key]
                total -= adapter.bytes


class RowLora:
    """Adds to the output of each adapted module what the adapter of each row says."""

    def __init__(self, network: Network) -> None:
        self._modules = dict(network.model.named_modules())
        self._hooked: set[str] = set()
        self._active: list[Adapter] = []
        self._matrices: dict[str, tuple[Tensor, Tensor]] = {}
        self._own: dict[str, Tensor] = {}
        self._device = network.device

    def select(self, rows: list[Adapter | None]) -> None:
        """Set whose answers the rows of the next run are; None is the base model."""
        active = list(dict.fromkeys(adapter for adapter in rows if adapter is not None))
        if active != self._active:
            self._stack(active)
        owners: dict[tuple[int, ...], Tensor] = {}
        self._own = {}
        for name in self._matrices:
            ranks = tuple(len(a.layers[name][0]) if name in a.layers else 0 for a in active)
            if ranks not in owners:
                owners[ranks] = self._ownership(rows, ranks)
            self._own[name] = owners[ranks]

    def _stack(self, active: list[Adapter]) -> None:
        self._active = active
        self._matrices = {}
        for name in dict.fromkeys(name for adapter in active for name in adapter.layers):
            pairs = [adapter.layers[name] for adapter in active if name in adapter.layers]
            self._matrices[name] = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs], dim=1)
            if name not in self._hooked:
                self._hooked.add(name)
                self._modules[name].register_forward_hook(self._hook(name))

    def _ownership(self, rows: list[Adapter | None], ranks: tuple[int, ...]) -> Tensor:
        """`[b, sum of ranks]`: 1 in the columns of the row's adapter."""
        column_owner = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks))
        row_owner = torch.tensor([self._active.index(a) if a is not None else -1 for a in rows])
        own = row_owner[:, None] == column_owner
        return own.to(next(iter(self._matrices.values()))[0].dtype).to(self._device)

    def _hook(self, name: str) -> Any:
        def add(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if name not in self._matrices:
                return output
            down, up = self._matrices[name]
            own = self._own[name] if inputs[0].ndim == 2 else self._own[name][:, None]
            return output + F.linear(F.linear(inputs[0], down) * own, up)

        return add


def _identity(folder: Path) -> str:
    try:
        stat = (folder / _WEIGHTS).stat()
    except OSError as error:
        raise BaseModelError(f"{folder}: the fine-tuned model's files are gone") from error
    return f"{folder.resolve()}|{stat.st_mtime_ns}|{stat.st_size}"


def _read(folder: Path, key: str, network: Network, modules: dict[str, Any]) -> Adapter:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_base(network, folder)
    checksums.check(folder)
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        weights = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise BaseModelError(f"{folder}: the fine-tuned model cannot be read: {error}") from error
    projector = read_projector(network, folder)
    refused = [name for name in _REFUSED if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or refused:
        kind = ", ".join(refused) or config.get("peft_type")
        raise BaseModelError(f"{folder}: only plain LoRA is served, and this is {kind}")
    if not all(bool(tensor.isfinite().all()) for tensor in [*weights.values(), *(projector or {}).values()]):
        raise BaseModelError(f"{folder}: its weights are not finite; train again with a smaller learning rate")
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    place = {"device": network.device, "dtype": network.dtype}
    layers = {
        name: (down.to(**place), (up * scale).to(**place))
        for name, (down, up) in _pairs(folder, weights, modules).items()
    }
    return Adapter(key, layers, projector)


def _pairs(folder: Path, weights: dict[str, Tensor], modules: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each module, checked against the module's shape."""
    found = {}
    for name, down in weights.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        up = weights.get(name.replace(".lora_A.", ".lora_B."))
        shape = _shape(modules.get(module))
        if up is None or sorted(shape) != sorted((up.shape[0], down.shape[1])):
            raise BaseModelError(f"{folder}: {module} does not fit the base model; was its base replaced?")
        found[module] = down, up
    if 2 * len(found) != len(weights):
        raise BaseModelError(f"{folder}: it holds weights that are not LoRA matrices")
    return found


def _shape(module: Any) -> tuple[int, ...]:
    """Of a module's matrix; none where it has none."""
    if isinstance(module, nn.Linear):  # whose weights may be packed
        return (module.out_features, module.in_features)
    weight = getattr(module, "weight", None)
    return () if weight is None else tuple(weight.shape)
