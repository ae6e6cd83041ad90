"""Targets: what a provider takes for a model, in numbers. The only place that holds a provider's limits on files.

Where a figure was read, and when, stands beside it; a provider's own page is always right. What is not known is None
and limits nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from finetune_assets.errors import TargetError
from finetune_assets.training_file.image_cost import Patches, Tiles, image_cost

Method = Literal["supervised", "dpo", "reinforcement"]
METHODS: tuple[Method, ...] = get_args(Method)
_MB = 1024 * 1024
Limits = dict[str, Any]
"""Fields of a `Target` that are not as the provider's others."""
_AZURE_TUNED = re.compile(r"(.+)\.ft-[0-9a-f]{32}.*")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one provider takes, for one model or for all of its models."""

    provider: str
    model: str | None = None
    methods: tuple[Method, ...] = METHODS
    max_tokens: int | None = 65_536
    """Longest example in training; what is beyond is cut off."""
    min_examples: int = 10
    max_file_bytes: int = 512 * _MB
    max_images: int = 10
    """In one example."""
    max_image_bytes: int = 10 * _MB
    max_image_examples: int = 50_000
    """Examples with images in one file."""
    image_formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    image_modes: tuple[str, ...] = ("RGB", "RGBA")
    """Pillow's words."""
    trains_on_images: bool = True
    plain_http: bool = True
    """Whether an image may be named by an http address; where it may, https is still the better one."""
    max_functions: int = 128
    """Functions that one example declares."""
    byte_order_mark: bool = False
    """Whether a file may begin with one."""

    @cached_property
    def image_cost(self) -> Tiles | Patches:
        """How images are counted."""
        return image_cost(base_of(self.model or ""))

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.model} at {self.provider}" if self.model else self.provider


OPENAI = Target(provider="openai")
"""Fine-tuning guides of developers.openai.com: supervised and direct preference optimisation (10 examples at least,
what is too long is cut off at the end), vision (10 images an example, 10 MB, 50,000 examples with images, JPEG, PNG and
WEBP, RGB or RGBA, "HTTP URLs or data URLs"), read 2026-06-27; API reference: files of 512 MB, 128 functions (read
2026-08-21). Whether a byte order mark is taken is not said; JSON forbids writing one (RFC 8259, 8.1)."""

AZURE = replace(OPENAI, provider="azure", max_images=64, byte_order_mark=True)
"""learn.microsoft.com, "Customize a model with fine-tuning": UTF-8 with a byte order mark, files below 512 MB, 10
examples at least; "Vision fine-tuning": 64 images an example, 10 MB, 50,000 examples with images, JPEG, PNG and WEBP,
publicly accessible URLs or data URIs (read 2026-11-30). Files without a mark are taken as well: Microsoft's own samples
have none."""

LOCAL = replace(OPENAI, provider="local", max_tokens=None, plain_http=False, byte_order_mark=True)
"""The server of this package: its rules for files are these; the longest example depends on the model, and the job's
events say what was cut off."""

NEBIUS = replace(OPENAI, provider="nebius", methods=("supervised",), max_tokens=None, max_file_bytes=5 * 1024 * _MB)
"""docs.tokenfactory.nebius.com: files of 5 GB; the longest example is a parameter of the job (read 2026-11-21)."""

CRUSOE = replace(OPENAI, provider="crusoe", methods=("supervised",), max_tokens=None, max_file_bytes=3 * 1024 * _MB)
"""docs.crusoecloud.com: files of 3 GB (read 2026-11-21)."""

_COMPATIBLE = replace(OPENAI, max_tokens=None, byte_order_mark=True)
"""Whoever else speaks the protocol: the limits of the protocol's own provider, but for those of its models."""

_PROVIDERS = {target.provider: target for target in (OPENAI, AZURE, LOCAL, NEBIUS, CRUSOE)}
_HOSTS = {
    "api.openai.com": "openai",
    ".openai.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    ".tokenfactory.nebius.com": "nebius",
    ".studio.nebius.com": "nebius",
    ".crusoecloud.com": "crusoe",
    "localhost": "local",
    "127.0.0.1": "local",
    "::1": "local",
}
_SUPERVISED: tuple[Method, ...] = ("supervised",)
_CHOSEN: tuple[Method, ...] = ("supervised", "dpo")
_GRADED: tuple[Method, ...] = ("reinforcement",)
_GPT_35: Limits = {"methods": _SUPERVISED, "max_tokens": 16_385, "trains_on_images": False}
_OPENAI_MODELS: dict[str, Limits] = {
    "gpt-4.1-2025-04-14": {"methods": _CHOSEN, "trains_on_images": False},
    "gpt-4.1-mini-2025-04-14": {"methods": _CHOSEN, "trains_on_images": False},
    "gpt-4.1-nano-2025-04-14": {"methods": _CHOSEN, "trains_on_images": False},
    "gpt-4o-2024-08-06": {"methods": _CHOSEN},
    "gpt-4o-mini-2024-07-18": {"methods": _CHOSEN, "trains_on_images": False},
    "gpt-4-0613": {"methods": _SUPERVISED, "max_tokens": 8_192, "trains_on_images": False},
    "gpt-3.5-turbo-0125": _GPT_35,
    "gpt-3.5-turbo-1106": _GPT_35,
    "gpt-3.5-turbo-0613": _GPT_35 | {"max_tokens": 4_096},
    "o4-mini-2025-04-16": {"methods": _GRADED},
}
"""Model optimisation guide of developers.openai.com (methods, and gpt-4o-2024-08-06 as the model that is trained on
images; read 2026-06-27) and an older copy of its "Token limits" (65,536 tokens, 16,385 for gpt-3.5-turbo, 4,096 for its
0613). For gpt-4.1 the figure of gpt-4o is taken; it was not confirmed."""
_AZURE_MODELS: dict[str, Limits] = {
    "gpt-4.1-2025-04-14": {"methods": _CHOSEN},
    "gpt-4.1-mini-2025-04-14": {"methods": _CHOSEN, "trains_on_images": False},
    "gpt-4.1-nano-2025-04-14": {"methods": _CHOSEN, "trains_on_images": False},
    "gpt-4o-2024-08-06": {"methods": _CHOSEN},
    "gpt-4o-mini-2024-07-18": {"methods": _SUPERVISED, "trains_on_images": False},
    "gpt-35-turbo-0125": _GPT_35,
    "gpt-35-turbo-1106": _GPT_35,
    "o4-mini-2025-04-16": {"methods": _GRADED},
    "gpt-5-2025-08-07": {"methods": _GRADED},
    "Ministral-3B": {"methods": _SUPERVISED, "max_tokens": None, "trains_on_images": False},
    "Qwen-32B": {"methods": _SUPERVISED, "max_tokens": None, "trains_on_images": False},
    "Llama-3.3-70B": {"methods": _SUPERVISED, "max_tokens": None, "trains_on_images": False},
    "gpt-oss-20b": {"methods": _SUPERVISED, "max_tokens": None, "trains_on_images": False},
}
"""MicrosoftDocs/azure-ai-docs, `fine-tune-models.md` (training example context 65,536 for gpt-4o and gpt-4o-mini,
16,385 for gpt-35-turbo; 2025-09-17), "Vision fine-tuning" (gpt-4o and gpt-4.1) and "Reinforcement fine-tuning"
(o4-mini, gpt-5 in preview) on learn.microsoft.com (read 2026-11-30)."""
_MODELS = {"openai": _OPENAI_MODELS, "azure": _AZURE_MODELS}


def base_of(model: str) -> str:
    """Return the base model in a fine-tuned model's name, as OpenAI and Azure write it; another name is a base model.

    OpenAI writes `ft:<base>:<organisation>:<suffix>:<id>`, where the base may have colons of its own, and
    `:ckpt-step-<n>` behind a checkpoint's; Azure writes `<base>.ft-<job>[:<suffix>]`.
    """
    if model.startswith("ft:"):
        parts = model.removeprefix("ft:").split(":")
        kept = parts[:-1] if parts[-1].startswith("ckpt-step-") else parts
        return ":".join(kept[:-3]) or parts[0]
    azure = _AZURE_TUNED.fullmatch(model)
    return azure[1] if azure else model


def find_target(provider: str, model: str | None = None) -> Target:
    """Look up what a provider takes.

    Args:
        provider: openai, azure, local, nebius, crusoe, or a base URL, of theirs or of anybody who speaks the protocol.
        model: What is trained, a fine-tuned model and a name without its date included; None is all of the provider's.

    Raises:
        TargetError: the provider is unknown, or the model where the provider's models are known.
    """
    target = _provider(provider)
    if model is None or target.provider not in _MODELS:
        return replace(target, model=model)
    known, base = _MODELS[target.provider], base_of(model)
    named = (
        base
        if base in known
        else next((each for each in known if re.fullmatch(rf"{re.escape(base)}-[\d-]+", each)), "")
    )
    if not named:
        told = f"the model {model!r} is not known at {target.provider}{_nearest(base, list(known))}"
        raise TargetError(f"{told}; known are {', '.join(known)}, or leave it out for what all models take")
    return replace(target, model=model, **known[named])


def nearest_target(provider: str, model: str) -> Target:
    """As `find_target`, but a model that is not known yet, as one that is newer than this table, has the common limits.

    Raises:
        TargetError: the provider is unknown.
    """
    try:
        return find_target(provider, model)
    except TargetError:
        return replace(find_target(provider), model=model)


def known_as(provider: str) -> str:
    """Return by which name a provider is known that is named by its base URL; another one stays what it is called."""
    return _provider(provider).provider if "://" in provider else provider


def _provider(name: str) -> Target:
    if name in _PROVIDERS:
        return _PROVIDERS[name]
    # Takes a third of a second, which a file that is checked for OpenAI need not wait.
    from finetune_assets.task.provider import address_of

    name = address_of(name) or name
    url = urlsplit(name)
    if url.scheme in ("http", "https") and url.hostname:
        host = url.hostname
        known = next(
            (known for end, known in _HOSTS.items() if host == end or (end[0] == "." and host.endswith(end))), ""
        )
        return replace(_PROVIDERS.get(known, _COMPATIBLE), provider=known or name)
    told = f"the provider {name!r} is not known{_nearest(name, list(_PROVIDERS))}"
    raise TargetError(f"{told}; known are {', '.join(_PROVIDERS)}, or give a base URL such as https://host/v1")


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name.lower(), [each.lower() for each in known], 1, 0.5)
    spelt = {each.lower(): each for each in known}
    return f" (did you mean {spelt[close[0]]}?)" if close else ""
