"""Whether a model learns, and is served as it has learned: tried at the server's start, not after hours of a job.

LoRA layers with weights of their own must change what the model says, have gradients, and mean the same three times: as
they are trained, as this server serves them from their folder, and as plain PEFT loads them from there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from finetune_assets.server import checksums
from finetune_assets.server.generation.lora import AdapterShelf, RowLora
from finetune_assets.server.model import adapters
from finetune_assets.server.model.chat_encoding import Sequence
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.own_forward import logits_at
from finetune_assets.server.model.proof import close, ordinary_tokens, pictured

_LENGTH = 16
_SIZE = 0.3
"""Of the weights that are tried, so that what they change is far above what rounding does."""


def fails(network: Network, *, sight: bool = False) -> str | None:
    """What keeps a model from being fine-tuned; None where nothing does. The network is of no use afterwards.

    With `sight`, so are the layers through which it sees.
    """
    try:
        return _fails(network, sight=sight)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever PEFT or a family's code cannot do
        return f"it cannot be fine-tuned ({type(error).__name__}: {str(error)[:300]})"


def _fails(network: Network, *, sight: bool) -> str | None:
    text = pictured(network) if sight else Sequence(ordinary_tokens(network, _LENGTH).tolist())
    ids, before = torch.tensor(text.ids), _logits(network, text)
    trained = adapters.add_trainable(network, None, with_images=sight, sight=sight)["lora"]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for weight in trained:
            weight.normal_(std=_SIZE * weight.shape[-1] ** -0.5)
    logits = _logits(network, text)
    targets = ids[1:].clamp(max=logits.shape[-1] - 1)  # a token that stands for an image may have no logit
    loss = torch.nn.functional.cross_entropy(logits[:-1], targets.to(logits.device))
    loss.backward()
    if close(logits.detach(), before) or not _moved(trained):
        return "what it would learn changes none of its answers"
    if sight and not _moved(adapters.seeing(network)):
        return "what it would learn to see changes none of its answers"
    with tempfile.TemporaryDirectory() as made:
        adapters.save(network, Path(made))
        checksums.write(Path(made))
        network.model = network.model.unload()
        for how, found in (
            ("served", _served(network, Path(made), text)),
            ("loaded by PEFT", _loaded(network, made, text)),
        ):
            if not close(found, logits.detach()):
                return f"what it has learned is something else when it is {how}"
    return None


def _moved(trained: list[torch.nn.Parameter]) -> bool:
    gradients = [weight.grad for weight in trained if weight.grad is not None]
    return any(bool(g.any()) for g in gradients) and all(bool(g.isfinite().all()) for g in gradients)


@torch.no_grad()
def _served(network: Network, folder: Path, text: Sequence) -> Tensor:
    adapter, rows = AdapterShelf(network, 0).acquire(folder), RowLora(network)
    rows.select([adapter])
    found = _logits(network, text)
    rows.select([None])
    return found


@torch.no_grad()
def _loaded(network: Network, folder: str, text: Sequence) -> Tensor:
    from peft import PeftModel

    network.model = PeftModel.from_pretrained(network.model, folder).eval()
    return _logits(network, text)


def _logits(network: Network, text: Sequence) -> Tensor:
    return logits_at(network.model, torch.tensor(text.ids), text.extras, torch.arange(len(text.ids)))
