"""What a model's frozen vision tower makes of a job's images, kept on disk: each passes it once, and not once an epoch.

Models that see by a processor of their own take pixels, and their forward asks their own `get_image_features` for what
the tower and its projector make of them. Nothing of that learns unless a job asks for it, so what it answered once it
would answer always. Kept are the tensors themselves, bit by bit and in the model's own precision, so that a training
with what was kept gives the weights of one without.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from finetune_assets.server import durable
from finetune_assets.server.model.own_forward import logits_at

if TYPE_CHECKING:
    from finetune_assets.server.model.network import Network
    from finetune_assets.server.training.examples import Example

AT_MOST = 8 * 2**30
_OF_FREE = 10
"""Of what is free on the disk a tenth is taken at most, and never more than `AT_MOST` bytes; the rest is seen anew."""
_UNUSED = {"hidden_states", "attentions"}
_WHOLE, _POOLED = "last_hidden_state", "pooler_output"
"""Where a tower gives both, the first is what the second was made of, and as large again."""
_PROVED = 8
"""Of an example's last tokens, which follow its images, the logits are compared: those of all would fill the memory."""
_PLAIN = (bool, int, float, str, type(None))


def keep_seen(network: Network, folder: Path, example: Example) -> None:
    """Let a network whose tower does not learn see each image once.

    With what was kept of this example it must say what it says without, to the last bit; a family whose forward wants
    more of its tower's answer than is kept is left as it is.
    """
    ids, extras = example.ids, example.extras
    where = torch.arange(len(ids))[-_PROVED:]
    seen = SeenImages(network, folder)
    try:
        first, again = (_logits(network, ids, extras, where) for _ in range(2))
        proved = torch.equal(first, again)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - whatever a family's code does where something is missing
        proved = False
    if not proved:
        seen.leave()


@torch.no_grad()
def _logits(network: Network, ids: Tensor, extras: Mapping[str, Tensor], where: Tensor) -> Tensor:
    return logits_at(network.model, ids, extras, where)


class SeenImages:
    """Stands in the place of a network's `get_image_features`, where it has one."""

    def __init__(self, network: Network, folder: Path, at_most: int = AT_MOST) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._model = f"{network.base.weights} {network.dtype}"
        self._device = network.device
        self._like: Any = None
        """What the tower gave last, by which what was kept is put together again."""
        self._left = min(at_most, shutil.disk_usage(folder).free // _OF_FREE)
        self._left -= sum(file.stat().st_size for file in folder.glob("seen-*"))
        self._owner = _owner(network.model)
        self._see: Any = None
        if self._owner is not None:
            self._see = self._owner.get_image_features
            self._owner.get_image_features = self

    def leave(self) -> None:
        """Give the network its own back."""
        if self._owner is not None:
            del self._owner.get_image_features

    @torch.no_grad()
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the tower gives for these pixels."""
        if (key := self._key(args, kwargs)) is None:
            return self._see(*args, **kwargs)
        kept = self._folder / f"seen-{key}.safetensors"
        if self._like is not None and (tensors := _read(kept)) is not None:
            return _together(self._like, {name: value.to(self._device) for name, value in tensors.items()})
        given = self._see(*args, **kwargs)
        if (tensors := _apart(given)) is not None:
            self._like = given
            self._keep(kept, tensors)
        return given

    def _key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """By all that the tower is given; None where some of it cannot be told apart from other such."""
        digest = hashlib.sha256(self._model.encode())
        for name, value in (*enumerate(args), *sorted(kwargs.items())):
            if isinstance(value, Tensor):
                digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            elif isinstance(value, _PLAIN):
                digest.update(f"{name} {value!r} ".encode())
            else:
                return None
        return digest.hexdigest()[:32]

    def _keep(self, kept: Path, tensors: dict[str, Tensor]) -> None:
        size = sum(value.nbytes for value in tensors.values())
        if kept.exists() or size > self._left:
            return
        durable.write(kept, save({name: value.cpu().contiguous().clone() for name, value in tensors.items()}))
        self._left -= size


def _owner(model: Any) -> Any:
    """The part of a model whose forward asks itself for the features of images; None of a model without."""
    asked = [part for part in model.modules() if callable(getattr(part, "get_image_features", None))]
    return asked[-1] if asked else None


def _read(kept: Path) -> dict[str, Tensor] | None:
    try:
        return load_file(kept)
    except (OSError, SafetensorError):  # not there yet, or of a disk that lost it
        return None


def _apart(given: Any) -> dict[str, Tensor] | None:
    """Its tensors by name; None of what cannot be put together again."""
    if not isinstance(given, Mapping):
        return None
    left_out = _UNUSED | ({_WHOLE} if given.get(_POOLED) is not None else set())
    tensors = [pair for name, value in given.items() if name not in left_out for pair in _leaves(value, name)]
    return None if any(tensor is None for _, tensor in tensors) else dict(tensors)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Tensors in lists of any depth, by where they stand; None in the place of anything else."""
    if isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            yield from _leaves(part, f"{name}.{place}")
    else:
        yield name, value if isinstance(value, Tensor) else None


def _together(like: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The same as `like`, of these tensors; lists may have other lengths."""
    fields = dict.fromkeys(name.partition(".")[0] for name in tensors)
    return type(like)(**{name: _rebuilt(like[name], name, tensors) for name in fields})


def _rebuilt(like: Any, name: str, tensors: Mapping[str, Tensor]) -> Any:
    if name in tensors:
        return tensors[name]
    places = {other.removeprefix(f"{name}.").partition(".")[0] for other in tensors if other.startswith(f"{name}.")}
    return type(like)(_rebuilt(like[0], f"{name}.{place}", tensors) for place in range(len(places)))
