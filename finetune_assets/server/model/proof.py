"""The self-test of a model at load: its parts must give the logits of the whole, and the whole must continue a text.

What is not shown here is not used: a model whose parts differ is served and trained by its own forward alone, and one
that cannot be trusted even so is refused, with what was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from finetune_assets.server.model.own_forward import Continuation, logits_at

if TYPE_CHECKING:
    from finetune_assets.server.model.network import Network

_LENGTHS, _SHARED = (40, 23), 9
_TOLERANCE = {torch.float32: 1e-4}
_COARSE = 3e-2
"""Of types with fewer digits than float32; a scale or a cap that is left out changes far more."""
_CHANGING = ("longrope", "dynamic")
"""Kinds of rotary positions that change with the longest row: neighbours would change each other's answers."""


@torch.no_grad()
def differs(network: Network) -> str | None:
    """Why a model may not be taken apart; None where it may."""
    if network.front.processor is not None:
        return "its images go through its own forward"
    if kinds := [kind for kind in _rope_types(network.model.config) if kind in _CHANGING]:
        return f"its positions ({kinds[0]}) depend on the longest row of a batch"
    try:
        return _differs(network)
    except Exception as error:  # noqa: BLE001 - whatever a family's code does, it shows that the parts do not fit
        return f"its parts do not work alone ({type(error).__name__})"


def _differs(network: Network) -> str | None:
    rows = _rows(network)
    whole = [_all_logits(network, row) for row in rows]
    flat: list[bool] = []
    hooks = [m.register_forward_pre_hook(lambda _m, given: flat.append(given[0].ndim == 2)) for m in _linears(network)]
    embedded = network.embed([row.tolist() for row in rows], [[] for _ in rows])
    for shared in (0, _SHARED):
        logits = network.logits(network.states(embedded, shared))
        for row, (own, length) in enumerate(zip(whole, _LENGTHS, strict=True)):
            if not close(logits[row, : length - shared], own[shared:]):
                return "its logits differ when it is taken apart"
    for hook in hooks:
        hook.remove()
    # Then a row of a batch is no longer a row there, and a fine-tuned model could not be told from its neighbour.
    return "it mixes the rows of a batch" if any(flat) else None


@torch.no_grad()
def fails(network: Network) -> str | None:
    """What of the model's own forward is wrong; None where a text that grows is as the text read at once."""
    row = _rows(network)[0][:12]
    try:
        at_once = _all_logits(network, row)
        grown = Continuation(network.model, row[:9], {})
        steps = [grown.step(), *(grown.step(int(token)) for token in row[9:])]
    except Exception as error:  # noqa: BLE001 - the family's code; its words say what is missing
        return f"it does not run ({type(error).__name__}: {str(error)[:300]})"
    if not at_once.isfinite().all():
        return "its logits are not finite"
    return (
        None if close(torch.stack(steps), at_once[8:]) else "a text that grows has other logits than the same at once"
    )


def close(found: Tensor, expected: Tensor) -> bool:
    """Whether logits mean the same probabilities, as far as the precision tells."""
    found, expected = found.float().log_softmax(-1), expected.float().log_softmax(-1)
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    return bool((found - expected).norm() <= _tolerance() * spread)


def _tolerance() -> float:
    from finetune_assets.server.model.precision import device_and_dtype

    return _TOLERANCE.get(device_and_dtype()[1], _COARSE)


def _all_logits(network: Network, row: Tensor) -> Tensor:
    return logits_at(network.model, row, {}, torch.arange(len(row)))


def _rows(network: Network) -> list[Tensor]:
    """Two rows of ordinary tokens that begin alike and are not of the same length."""
    special = set(network.tokenizer.all_special_ids) | set(network.tokenizer.added_tokens_decoder)
    usual = [token for token in range(min(len(network.tokenizer), network.vocabulary)) if token not in special]
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.tensor(usual)[torch.randint(len(usual), (n,), generator=draw)] for n in _LENGTHS)
    second[:_SHARED] = first[:_SHARED]
    return [first, second]


def _linears(network: Network) -> list[Any]:
    return [module for module in network.decoder.modules() if isinstance(module, torch.nn.Linear)]


def _rope_types(config: Any) -> set[str]:
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.update(str(v) for k, v in value.items() if k in ("rope_type", "type") and v)
            for part in value.values():
                look(part)

    look(config.to_dict())
    return found
