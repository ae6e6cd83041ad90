"""What is tried on a training's own examples before its first step: gradients, computed in one way and in another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from finetune_assets.server.model.one_pass import OnePass
from finetune_assets.server.model.packed import Packed

if TYPE_CHECKING:
    from finetune_assets.server.training.loop import Run

_WORTH_TRYING = 0.02
"""Share of a batch's tokens: to try what leaves out fewer would take longer than it saves."""

AS_CLOSE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""By how much, relatively, gradients may differ that different kernels have computed."""


def sample_gradients(run: Run[Any]) -> list[torch.Tensor]:
    """Gradients of all that is trained, of the longest example and of a batch of the shortest."""
    by_length = sorted(run.examples, key=run.objective.length)
    for items in (by_length[-1:], by_length[: int(run.settings["batch_size"])]):
        run.objective.rehearse(items)
    return [*gradients(run, by_length[-1:]), *gradients(run, by_length[: int(run.settings["batch_size"])])]


def gradients(run: Run[Any], items: list[Any]) -> list[torch.Tensor]:
    """Those of all that is trained, of the sum of the items' terms; they are forgotten again."""
    for part in run.objective.parts(items):
        loss, _ = run.objective.losses(part)
        loss.backward()
    found = [parameter.grad.clone() for parameter in run.optimiser.parameters if parameter.grad is not None]
    run.optimiser.adamw.zero_grad()
    return found


def take_savings(run: Run[Any]) -> None:
    """Let less pass through the network, on a CPU as far as that changes no bit of the gradients.

    What all rows of a part begin with passes beside what follows it, and what no learned token follows is left out.
    On a GPU, which adds up in another order each time, rows are packed as well.
    """
    network = run.network
    if network.device.type != "cpu" or network.whole:
        network.trimmed = not network.whole
        take_packed(run)
        return
    batch = sorted(run.examples, key=run.objective.length)[: int(run.settings["batch_size"])]
    run.objective.rehearse(batch)
    one_pass = OnePass.of(network) if len(batch) > 1 and not network.recomputes else None
    trims = (True, False) if _left_out(run, batch) >= _WORTH_TRYING else (False,)
    with drawn(run.optimiser.parameters):
        before = gradients(run, batch)
        for taken, trimmed in ((taken, trimmed) for taken in dict.fromkeys([one_pass, None]) for trimmed in trims):
            network.one_pass, network.trimmed = taken, trimmed
            if not (taken or trimmed) or all(map(torch.equal, before, gradients(run, batch))):
                return


def take_packed(run: Run[Any]) -> None:
    """Let rows pass without padding, if that gives the gradients of padded ones as far as the precision tells."""
    network, by_length = run.network, sorted(run.examples, key=run.objective.length)
    size = int(run.settings["batch_size"])
    batch = by_length[:: max(1, len(by_length) // size)][:size]  # of different lengths
    run.objective.rehearse(batch)
    packed = Packed.of(network)
    if packed is None:
        return
    with drawn(run.optimiser.parameters):
        padded = torch.cat([gradient.flatten() for gradient in gradients(run, batch)])
        network.packed, packed.always = packed, True
        try:
            found = torch.cat([gradient.flatten() for gradient in gradients(run, batch)])
            fits = bool((found - padded).norm() <= AS_CLOSE[network.dtype] * padded.norm())
        except torch.OutOfMemoryError:
            raise
        except (NotImplementedError, RuntimeError, ValueError):  # no kernel for this GPU, or for heads so wide
            run.optimiser.adamw.zero_grad()
            fits = False
    packed.always = False
    network.packed = packed if fits else None


def _left_out(run: Run[Any], batch: list[Any]) -> float:
    """Share of the tokens that no learned one follows."""
    examples = [example for item in batch for example in run.objective.examples(item)]
    return 1 - sum(len(example.trimmed()[0]) for example in examples) / sum(map(len, examples))


@contextmanager
def drawn(parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Let them be random meanwhile: half of a LoRA layer begins with zeros, and a resumed job must find the same."""
    kept, draw = [parameter.detach().clone() for parameter in parameters], torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.data.copy_(0.01 * torch.randn(parameter.shape, generator=draw))
    try:
        yield
    finally:
        for parameter, before in zip(parameters, kept, strict=True):
            parameter.data.copy_(before)
