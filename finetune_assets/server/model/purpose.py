"""What a model was made for, as its files tell: those that continue a text, alone or with images, are served here.

transformers makes a model that writes of almost any files, from those weights that it has a place for. Of a classifier,
a reranker, an embedding model, or a decoder that lacks its encoder, it makes one that answers, and no self-test can
tell that the answers mean nothing.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from finetune_assets.errors import UnfitModelError
from finetune_assets.server.base_models import BaseModel

_ATTENDS_TO_AN_ENCODER = re.compile(r"encoder_attn|cross_?attn|crossattention", re.IGNORECASE)
_REMEDY = "name one that writes text"


def check(base: BaseModel, config: Any, *, sees: bool) -> None:
    """Refuse what its makers did not save as a model that writes.

    Raises:
        UnfitModelError: it has an encoder, another head than one for the next token, or makes vectors of texts.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise UnfitModelError(f"the base model {base.name!r} has an encoder for what it is told; name one without")
    named = list(getattr(config, "architectures", None) or [])
    written = _class_that_writes(config, sees=sees)
    if written is None:
        what = named[0] if named else f"of the kind {config.model_type!r}"
        raise UnfitModelError(f"the base model {base.name!r} is {what}, which writes no text; {_REMEDY}")
    if named and _plain(written) not in map(_plain, named):
        raise UnfitModelError(
            f"the base model {base.name!r} was saved as {named[0]}; of its kind only {written} writes text; {_REMEDY}"
        )
    if _makes_vectors(base):
        raise UnfitModelError(
            f"the base model {base.name!r} makes vectors of texts (its modules.json pools them); {_REMEDY}"
        )


def check_alone(base: BaseModel, model: Any) -> None:
    """Refuse a decoder that is half a model.

    Raises:
        UnfitModelError: it attends to what an encoder makes of speech, a text or an image, and has no encoder.
    """
    taken = set(inspect.signature(model.forward).parameters) & {"encoder_hidden_states", "encoder_outputs"}
    if taken and any(_ATTENDS_TO_AN_ENCODER.search(name) for name, _ in model.named_modules()):
        raise UnfitModelError(
            f"the base model {base.name!r} is the decoder of a model ({type(model).__name__}) that was made to attend "
            f"to an encoder, which is not there; {_REMEDY} by itself"
        )


def _class_that_writes(config: Any, *, sees: bool) -> str | None:
    """What transformers would load these files as; None where it has nothing that writes."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    kinds = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if sees else MODEL_FOR_CAUSAL_LM_MAPPING
    written: Any = kinds.get(type(config), None)
    return written and written.__name__


def _plain(name: str) -> str:
    """Makers' own code spells some names otherwise than transformers: `PhiMoEForCausalLM`, `Ernie4_5_ForCausalLM`."""
    return name.replace("_", "").lower()


def _makes_vectors(base: BaseModel) -> bool:
    """Whether its files are those of sentence-transformers with a step that pools what all tokens became."""
    from transformers.utils.hub import cached_file

    found = cached_file(
        base.path, "modules.json", revision=base.revision,
        _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    return found is not None and any("pooling" in step["type"].lower() for step in json.loads(Path(found).read_text()))
