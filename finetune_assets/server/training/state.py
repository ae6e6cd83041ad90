"""What a trainer needs to go on after an interruption as if there had been none.

A state is a folder `step-<n>`: the trained weights and AdamW's moments (`tensors.safetensors`), and how far training
is (`state.json`). It is written to a scratch folder and renamed, so a process killed at any moment leaves the last
complete one. The order of the batches follows from the seed, so the number of the step says which comes next.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.durable import publish

_SCRATCH = "saving"


class StateError(FinetuneAssetsError, RuntimeError):
    """A saved state cannot be used."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far training is."""

    step: int = 0
    trained_tokens: int = 0
    best_step: int = 0
    """At which epoch's end the loss on the held-out examples was lowest."""
    best_loss: float = math.inf


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The saved states of one job in `folder`. `work` is what they belong to; those of other work are not used."""

    folder: Path
    work: dict[str, Any]

    def save(self, position: Position, adamw: torch.optim.Optimizer) -> None:
        """Save the weights that `adamw` moves, and its own state; then remove the state before.

        Raises:
            OSError: it cannot be written, the disk is full for example.
        """
        scratch = self.folder / _SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        save_file(_tensors(adamw), scratch / "tensors.safetensors")
        counters = {
            "work": self.work,
            **asdict(position),
            "sha256": _digest(scratch / "tensors.safetensors"),
        }
        (scratch / "state.json").write_text(json.dumps(counters))
        target = publish(scratch, self.folder / f"step-{position.step}")
        for old in self._found():
            if old != target:
                shutil.rmtree(old)

    def restore(self, adamw: torch.optim.Optimizer) -> Position:
        """Bring the last saved state back; the beginning if none of this work was saved.

        Raises:
            StateError: it cannot be read.
        """
        found = self._found()
        if not found:
            return Position()
        newest = found[-1]
        try:
            counters = json.loads((newest / "state.json").read_text())
            if counters["work"] != self.work:
                return Position()
            if counters["sha256"] != _digest(newest / "tensors.safetensors"):
                raise StateError(f"{newest}: the tensors are not those that were saved")
            _put_back(adamw, load_file(newest / "tensors.safetensors"))
            return Position(**{field.name: counters[field.name] for field in fields(Position)})
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise StateError(f"{newest}: {error}") from error

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _tensors(adamw: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for number, parameter in enumerate(_parameters(adamw)):
        tensors[f"{number}.weight"] = parameter.detach().contiguous()
        for name, value in adamw.state.get(parameter, {}).items():
            tensors[f"{number}.{name}"] = value.contiguous()
    return tensors


@torch.no_grad()
def _put_back(adamw: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    for number, parameter in enumerate(_parameters(adamw)):
        prefix = f"{number}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        parameter.copy_(own.pop("weight"))
        if own:
            adamw.state[parameter] = {name: value.to(parameter.device) for name, value in own.items()}


def _parameters(adamw: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in adamw.param_groups for parameter in group["params"]]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
