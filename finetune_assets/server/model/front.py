"""What stands before a model's weights: its tokenizer and, where it takes images by itself, its processor."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from finetune_assets.errors import BaseModelError, FinetuneAssetsError, UnfitModelError
from finetune_assets.server.base_models import VISION_MODEL, BaseModel
from finetune_assets.server.model.bundled_template import with_tools
from finetune_assets.server.model.plain_text import Fence, looks_harmless

_UNFIT = (AttributeError, LookupError, TypeError, ValueError)
"""What code of transformers raises where files lack what it looks for."""


@dataclass(frozen=True, slots=True)
class Front:
    """Turns texts, and images where there is a processor, into what the model's own forward takes."""

    tokenizer: Any
    processor: Any
    """None for a model that takes text only, and for the bundled one, whose images this server reads itself."""

    @property
    def renderer(self) -> Any:
        """What has the chat template."""
        return self.processor or self.tokenizer


def load_front(base: BaseModel) -> Front:
    """Load a model's tokenizer and processor.

    Raises:
        UnfitModelError: they need code or a package that is not here, are of a kind that this server cannot use, or
            their files are missing or broken.
        BaseModelError: this machine could not read them.
    """
    from transformers import AutoTokenizer

    with blaming_files(base):
        processor = _processor(base) if base.vision and base.name != VISION_MODEL else None
        tokenizer = (
            processor.tokenizer if processor else AutoTokenizer.from_pretrained(base.path, revision=base.revision)
        )
    # Without its file, some kinds of tokenizers come with their control tokens alone.
    if not getattr(tokenizer, "is_fast", False) or not set(tokenizer.get_vocab()) - {*tokenizer.added_tokens_encoder}:
        raise UnfitModelError(f"{base.name!r}: its tokenizer has no tokenizer.json, which this server needs")
    if base.bundled:
        tokenizer.chat_template = with_tools(tokenizer.chat_template)
    return Front(tokenizer, processor)


@contextmanager
def blaming_files(base: BaseModel) -> Iterator[None]:
    """Make of what transformers raises over a model's files an error that names the model.

    Raises:
        UnfitModelError: a file or a package is missing, or a file is broken.
        BaseModelError: this machine could not read them.
    """
    try:
        yield
    except (MemoryError, FinetuneAssetsError):
        raise
    except ImportError as error:
        raise UnfitModelError(f"the base model {base.name!r} needs what is not installed here: {error}") from error
    except Exception as error:  # whatever code meets where files are not as it expects them
        import torch  # not at the top: a server starts without it

        if isinstance(error, torch.OutOfMemoryError):
            raise
        of_the_machine = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
        said = f"{error}" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {error}"
        made = " `python -m finetune_assets.server.base_models` makes the bundled ones." if base.bundled else ""
        told = f"the base model {base.name!r} cannot be loaded from {base.path}: {said.rstrip('.')}.{made}"
        raise (BaseModelError if of_the_machine else UnfitModelError)(told) from error


def spells_controls(base: BaseModel, contents: Any) -> bool:
    """Whether texts hold a control token of a model, or may, as its tokenizer cannot be loaded here."""
    if looks_harmless(contents):
        return False
    try:
        return Fence.around(_kept_tokenizer(base), contents).controls is not None
    except FinetuneAssetsError:
        return True


@lru_cache(maxsize=4)
def _kept_tokenizer(base: BaseModel) -> Any:
    return load_front(base).tokenizer


def _processor(base: BaseModel) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(base.path, revision=base.revision)
    except (ImportError, *_UNFIT) as error:
        if "torchvision" not in str(error).lower():
            raise UnfitModelError(f"{base.name!r}: its processor cannot be loaded: {error}") from error
    try:
        return _for_images(base)
    except (ImportError, *_UNFIT) as error:
        needed = "the package torchvision, in the release that belongs to the torch that is installed"
        raise UnfitModelError(f"{base.name!r}: its processor needs {needed} ({error})") from error


def _for_images(base: BaseModel) -> Any:
    """A processor without its half for videos, which alone needs torchvision."""
    from transformers.processing_utils import ProcessorMixin

    whole: Any = _processor_class(base)

    class WithoutVideos(ProcessorMixin):
        """Its parts put together, but for one that makers name and that is not there."""

        def __init__(self, *parts: Any, **named: Any) -> None:
            named.pop("video_processor", None)
            super().__init__(*parts, **named)

    class ForImages(whole, WithoutVideos):
        """The makers' own, but for videos."""

        video_processor = SimpleNamespace(num_frames=None, fps=None)  # SmolVLM's template asks it for these

        @classmethod
        def get_attributes(cls) -> list[str]:
            """Name the parts."""
            return [name for name in super().get_attributes() if "video" not in name]

        @classmethod
        def from_args_and_dict(cls, args: list[Any], processor_dict: dict[str, Any], **settings: Any) -> Any:
            """Put the parts together, with nothing in the place of the one for videos."""
            parts = dict(zip(cls.get_attributes(), args, strict=True))
            every = [parts.get(name) for name in whole.get_attributes()]
            return super().from_args_and_dict(every, processor_dict, **settings)

    ForImages.__name__ = whole.__name__
    made: Any = ForImages
    return made.from_pretrained(base.path, revision=base.revision)


def _processor_class(base: BaseModel) -> Any:
    """The one that the model's files name; one config may stand for models with several."""
    from transformers import AutoConfig
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
    from transformers.processing_utils import ProcessorMixin

    for read in (ProcessorMixin.get_processor_dict, ImageProcessingMixin.get_image_processor_dict):
        with suppress(OSError):
            settings, _ = read(base.path, revision=base.revision)
            if name := settings.get("processor_class"):
                return processor_class_from_name(name)
    return PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(base.path, revision=base.revision))]
