"""What one completion call asks for, and what it gets: the interface of `engine`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.answer_grammar import Calling
from finetune_assets.server.generation.calls import Call, CallDelta
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
    messages: list[dict[str, Any]] = field(default_factory=list)
    """OpenAI's format."""
    text: str | list[int] | None = None
    """A text, or the ids of its tokens, to go on with as it is, in the place of messages."""
    scored: bool = False
    """Whether the log-probabilities of the text's own tokens are told, too."""
    owner: str = ""
    """Who asks: requests of several are worked on in turn."""
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
    """What is said is JSON that fits this schema; `{"type": "object"}` is OpenAI's `json_object` mode."""
    tools: list[dict[str, Any]] | None = None
    """Functions that the model is told of, as `tools_of` returns them."""
    calling: Calling | None = None
    """Which of them it may call, where there are tools."""
    effort: str | None = None
    """How much it is asked to think first; None: it answers at once."""


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
    thought: str = ""
    """A piece of what was thought."""
    call: CallDelta | None = None
    """A piece of a call."""


@dataclass(frozen=True, slots=True)
class GeneratedChoice:
    """One answer."""

    text: str
    finish_reason: str
    """`stop` or `length`."""
    tokens: list[TokenLogprob]
    """Of what is said; empty unless log-probabilities were asked for."""
    thought: str = ""
    calls: list[Call] = field(default_factory=list)
    ending: TokenLogprob | None = None
    """The end token, which is not said; None where none came, or log-probabilities were not asked for."""


@dataclass(frozen=True, slots=True)
class Generation:
    """All answers to one request."""

    choices: list[GeneratedChoice]
    prompt_tokens: int
    completion_tokens: int
    """Tokens of all answers, end tokens not among them."""
    cached_tokens: int
    """How many of the prompt's tokens an earlier request had computed."""
    reasoning_tokens: int = 0
    """How many of the completion's were thought."""
    scores: list[TokenLogprob] = field(default_factory=list)
    """Of the tokens of a text that was to be scored, each after those before it; nothing is known of the first: 0."""
