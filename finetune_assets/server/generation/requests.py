"""What one completion call asks for, and what it gets: the interface of `engine`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.sampling import TokenLogprob


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A base model, or a fine-tuned one by the folder of its trained part."""

    base: BaseModel
    adapter: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What one completion call asks for."""

    model: ModelRef
    messages: list[dict[str, Any]]
    """OpenAI's format."""
    max_tokens: int | None = None
    """None: as many as the context allows."""
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """What is added to the logits of token ids; -100 and below bans a token, 100 and above forces it."""
    json_schema: dict[str, Any] | None = None
    """The answer is JSON that fits this schema; `{"type": "object"}` is OpenAI's `json_object` mode."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer, as soon as it is certain."""

    index: int
    """Which of the `n` answers."""
    text: str
    """Whole characters, none of which can still turn out to begin a stop sequence."""
    tokens: list[TokenLogprob]
    """The tokens of this piece; empty unless log-probabilities were asked for."""
    finish_reason: str | None
    """`stop` or `length` in the last piece of this answer, None before."""


@dataclass(frozen=True, slots=True)
class GeneratedChoice:
    """One answer."""

    text: str
    finish_reason: str
    """`stop` or `length`."""
    tokens: list[TokenLogprob]
    """Empty unless log-probabilities were asked for."""


@dataclass(frozen=True, slots=True)
class Generation:
    """All answers to one request."""

    choices: list[GeneratedChoice]
    prompt_tokens: int
    completion_tokens: int
    """Tokens of all answers, end tokens not among them."""
    cached_tokens: int
    """How many of the prompt's tokens an earlier request had computed."""
