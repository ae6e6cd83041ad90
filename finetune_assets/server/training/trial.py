"""What is tried on a training's own examples before its first step: gradients, computed in one way and in another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from finetune_assets.server.model.one_pass import OnePass
from finetune_assets.server.model.packed import Packed
from finetune_assets.server.training.objectives import Preference, Supervised

if TYPE_CHECKING:
    from finetune_assets.server.training.preparing import Run

_WORTH_TRYING = 0.02
"""Share of a batch's tokens: to try what leaves out fewer would take longer than it saves."""

_WORTH_COMPILING = 120.0
"""Seconds that a training would take as it is. To compile takes half a minute or more, and saves at best half of it."""

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
    network, batch = run.network, _mixed(run)
    run.objective.rehearse(batch)
    packed = Packed.of(network)
    if packed is None:
        return
    with drawn(run.optimiser.parameters):
        padded = gradients(run, batch)
        network.packed, packed.always = packed, True
        try:
            fits = _close(gradients(run, batch), padded, network.dtype)
        except torch.OutOfMemoryError:
            raise
        except (NotImplementedError, RuntimeError, ValueError):  # no kernel for this GPU, or for heads so wide
            run.optimiser.adamw.zero_grad()
            fits = False
    packed.always = False
    network.packed = packed if fits else None


def compiles(run: Run[Any]) -> bool:
    """Whether layers may be compiled: on a GPU, as each job is to have its bits on a CPU; not where they answer too."""
    learns_only = isinstance(run.objective, Supervised | Preference)
    return run.network.device.type == "cuda" and not run.network.whole and learns_only


def take_compiled(run: Run[Any], steps: int, note: Callable[[str, str], None]) -> None:
    """Let layers run compiled, if so many steps are worth it and it gives the gradients of layers as they are."""
    network, batch = run.network, _mixed(run)
    with drawn(run.optimiser.parameters):
        gradients(run, batch)  # chooses kernels
        begun = time.monotonic()
        before = gradients(run, batch)
        before[0].sum().item()  # waits for the GPU
        if (time.monotonic() - begun) * steps < _WORTH_COMPILING:
            return
        network.compile_layers(compiled=True)
        try:
            close = _close(gradients(run, batch), before, network.dtype)
            problem = None if close else "it gave other gradients"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - no compiler, or a family's code that PyTorch cannot follow
            run.optimiser.adamw.zero_grad()
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if problem is None:
        torch._dynamo.config.suppress_errors = True  # what comes later and cannot be compiled runs as it is
        note("Layers run compiled", "info")
    else:
        network.compile_layers(compiled=False)
        note(f"Layers run as they are, as they could not be compiled, which is slower: {problem}", "warn")


def _mixed(run: Run[Any]) -> list[Any]:
    """A batch of different lengths."""
    by_length, size = sorted(run.examples, key=run.objective.length), int(run.settings["batch_size"])
    return by_length[:: max(1, len(by_length) // size)][:size]


def _close(found: list[torch.Tensor], expected: list[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether gradients are the same as far as a precision tells."""
    one, other = (torch.cat([gradient.flatten() for gradient in some]) for some in (found, expected))
    return bool((one - other).norm() <= AS_CLOSE[dtype] * other.norm())


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
