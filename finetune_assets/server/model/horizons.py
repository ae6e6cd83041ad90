"""Lengths beyond which a model's attention is another: windows, chunks, selections, positions that are scaled anew.

The self-test of a load reads a few tokens (see `proof`), and these lengths are thousands. So each is brought so near
that the few tokens reach it: the same weights and the same code with a small number in one place. What a model makes
wrong of it ends its context there, and so does a length that changes nothing when it is brought near, as nobody knows
then what it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from finetune_assets.server.model.own_forward import Continuation, logits_at

if TYPE_CHECKING:
    from finetune_assets.server.model.network import Network

NEAR = 4
"""Tokens that every trial of a load has behind it early."""
_CROSSED, _PROMPT, _LENGTH = 10, 9, 12
"""A length that a text crosses while it grows from a prompt of so many tokens to so many."""
_WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size")
_OTHERS = ("attention_chunk_size", "index_topk")
_ROPE, _CHANGING = "original_max_position_embeddings", ("longrope", "dynamic")


def horizons(network: Network) -> dict[str, int]:
    """Name the settings of a model that change its attention within its context, with the lengths where they do."""
    config = network.decoder.config
    names: list[str] = [*_OTHERS]
    kinds = getattr(config, "layer_types", None)
    if getattr(config, "use_sliding_window", True) is not False and (not kinds or any("sliding" in k for k in kinds)):
        names += _WINDOWS
    if rope_kinds(config):
        names.append(_ROPE)
    held = list(_nested(vars(config)))
    found = {name: min((values[name] for values in held if _is_length(values.get(name))), default=0) for name in names}
    return {name: length for name, length in found.items() if 0 < length < network.max_length}


def rope_kinds(config: Any) -> list[str]:
    """Kinds of rotary positions of a config that change with the longest row."""
    told = [values.get(name) for values in _nested(config.to_dict()) for name in ("rope_type", "type")]
    return [kind for kind in _CHANGING if kind in told]


@contextmanager
def brought_near(network: Network, name: str, length: int = NEAR) -> Iterator[None]:
    """Let one of the settings be a small number meanwhile, wherever the model keeps it."""
    before = [(values, values[name]) for values in _holders(network.model) if _is_length(values.get(name))]
    for values, _ in before:
        values[name] = length
    try:
        yield
    finally:
        for values, kept in before:
            values[name] = kept


@torch.no_grad()
def end(network: Network) -> tuple[int, str] | None:
    """Where a model's context has to end before its files say, and why; None where it need not."""
    for name, length in sorted(horizons(network).items(), key=lambda found: found[1]):
        if why := _misses(network, name):
            return length, f"{name} is {length:,}, and beyond it {why}"
    return None


def _misses(network: Network, name: str) -> str | None:
    from finetune_assets.server.model.proof import close, ordinary_tokens

    row, last = ordinary_tokens(network, _LENGTH), torch.tensor([_LENGTH - 1])
    lengths = range(_PROMPT, _LENGTH + 1)
    try:
        far, reached = logits_at(network.model, row, {}, last), False
        for near in (NEAR, _CROSSED):
            with brought_near(network, name, near):
                at_once = [logits_at(network.model, row[:n], {}, torch.tensor([n - 1])) for n in lengths]
                grown = Continuation(network.model, row[:_PROMPT], {})
                steps = [grown.step(), *(grown.step(int(token)) for token in row[_PROMPT:])]
            if not close(torch.stack(steps), torch.cat(at_once)):
                return "a text that grows has other logits than the same at once"
            reached = reached or not close(at_once[-1], far)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the family's code, which was made for larger numbers
        return f"it could not be tried ({type(error).__name__})"
    return None if reached else "it could not be tried, as it changes nothing when it is small"


def _holders(model: Any) -> Iterator[dict[str, Any]]:
    """Everything in which a model keeps settings: its modules and their configs, each once."""
    seen: set[int] = set()
    for module in model.modules():
        yield vars(module)
        config = getattr(module, "config", None)
        if config is not None and id(config) not in seen:
            seen.add(id(config))
            yield from _nested(vars(config))


def _nested(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield values
    for held in values.values():
        if isinstance(held, dict):
            yield from _nested(held)


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > NEAR
