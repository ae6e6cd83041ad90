"""What is tried on a training's own examples before its first step: gradients, computed in one way and in another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from finetune_assets.server.model.one_pass import OnePass

if TYPE_CHECKING:
    from finetune_assets.server.training.loop import Run


def sample_gradients(run: Run[Any]) -> list[torch.Tensor]:
    """Gradients of all that is trained, of the longest example and of a batch of the shortest."""
    by_length = sorted(run.examples, key=run.objective.length)
    return [*_gradients(run, by_length[-1:]), *_gradients(run, by_length[: int(run.settings["batch_size"])])]


def _gradients(run: Run[Any], items: list[Any]) -> list[torch.Tensor]:
    for part in run.objective.parts(items):
        loss, _ = run.objective.losses(part)
        loss.backward()
    found = [parameter.grad.clone() for parameter in run.optimiser.parameters if parameter.grad is not None]
    run.optimiser.adamw.zero_grad()
    return found


def take_one_pass(run: Run[Any]) -> None:
    """Let what all rows of a part begin with pass beside what follows it, if that changes no bit of the gradients."""
    batch = sorted(run.examples, key=run.objective.length)[: int(run.settings["batch_size"])]
    one_pass = OnePass.of(run.network)
    if one_pass is None or run.network.device.type != "cpu" or len(batch) == 1:
        return
    with _drawn(run.optimiser.parameters):
        before = _gradients(run, batch)
        run.network.one_pass = one_pass
        if not all(map(torch.equal, before, _gradients(run, batch))):
            run.network.one_pass = None


@contextmanager
def _drawn(parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Let them be random meanwhile: half of a LoRA layer begins with zeros, and a resumed job must find the same."""
    kept, draw = [parameter.detach().clone() for parameter in parameters], torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.data.copy_(0.01 * torch.randn(parameter.shape, generator=draw))
    try:
        yield
    finally:
        for parameter, before in zip(parameters, kept, strict=True):
            parameter.data.copy_(before)
