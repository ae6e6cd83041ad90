"""The model's own forward, one conversation at a time: right for every family, because it is what its makers wrote.

Positions, masks, images, mixtures and states of all kinds are the model's business. No padding and no neighbour can
change a result, and nothing here knows a family.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Extras = Mapping[str, Tensor]
"""What the forward takes beside the ids: pixels, grids, types of tokens."""
_OF_TOKENS = ("token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""Those that have an entry for each token, and so grow with the sequence."""


def logits_at(model: Any, ids: Tensor, extras: Extras, places: Tensor) -> Tensor:
    """Logits `[p, vocabulary]` in float32 at p places of one sequence `[s]`."""
    inputs = _inputs(model, ids, extras)
    places = places.to(inputs["input_ids"].device)
    if _takes(model, "logits_to_keep"):
        return model(**inputs, use_cache=False, logits_to_keep=places).logits[0].float()
    return model(**inputs, use_cache=False).logits[0, places].float()


class Continuation:
    """One sequence that grows token by token, with the cache that the model makes for itself."""

    def __init__(self, model: Any, ids: Tensor, extras: Extras) -> None:
        self._model = model
        inputs = _inputs(model, ids, extras)
        self._ids: Tensor = inputs["input_ids"]
        self._state: dict[str, Any] = {}
        # `generate` prepares cache, positions and masks as the model wants them, and then leaves the rest to us.
        model.generate(**inputs, max_new_tokens=1, do_sample=False, custom_generate=self._take_over)
        self._first = True

    def _take_over(
        self,
        model: Any,  # noqa: ARG002 - what `generate` hands over
        input_ids: Tensor,
        logits_processor: Any,  # noqa: ARG002
        stopping_criteria: Any,  # noqa: ARG002
        generation_config: Any,  # noqa: ARG002
        **state: Any,
    ) -> Tensor:
        self._state = state
        return input_ids

    def step(self, token: int | None = None) -> Tensor:
        """Logits `[vocabulary]` in float32 after the sequence, to which `token` is added before."""
        if token is not None:
            self._ids = torch.cat([self._ids, self._ids.new_tensor([[token]])], dim=1)
        first = {"is_first_iteration": True} if self._first else {"next_sequence_length": 1}
        inputs = self._model.prepare_inputs_for_generation(self._ids, **first, **self._state)
        out = self._model(**inputs, return_dict=True)
        self._first = False
        self._state = self._model._update_model_kwargs_for_generation(out, self._state, is_encoder_decoder=False)
        return out.logits[0, -1].float()


def _inputs(model: Any, ids: Tensor, extras: Extras) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    row = ids[None].long().to(device)
    inputs = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    for name, value in extras.items():
        value = value.to(device)
        more = row.shape[1] - value.shape[1] if name in _OF_TOKENS else 0
        if more and name == "cross_attention_mask":  # `[1, s, images, tiles]`: as the last token of the prompt
            value = torch.cat([value, value[:, -1:].expand(-1, more, -1, -1)], dim=1)
        elif more:  # an answer's tokens are text
            value = torch.nn.functional.pad(value, (0, more))
        inputs[name] = value.to(model.dtype) if value.is_floating_point() else value
    return inputs


def _takes(model: Any, name: str) -> bool:
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return name in inspect.signature(whole.forward).parameters
