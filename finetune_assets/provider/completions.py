"""One question to a model and its answer as they travel: the same bytes, whether asked by itself or in a batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from finetune_assets.provider.manners import Manner

Messages = list[dict[str, Any]]

_SILENCE_S, _SECONDS_PER_TOKEN = 60, 1
"""How long an answer is waited for; a processor that answers many at once writes a token a second or more."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer; probabilities are natural logarithms, given all tokens before it."""

    text: str
    logprob: float
    candidates: dict[str, float]
    """Log-probability of the likeliest tokens at this place, as many as were asked for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, or why there is none."""

    text: str | None
    tokens: tuple[Token, ...] = ()
    """The tokens of `text`, without the one that ends it; empty if the provider gives no log-probabilities."""
    latency_s: float | None = None
    """Of the attempt that was answered; None of answers from a batch."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    """`length` where the answer was cut off at `max_tokens`."""
    error: str | None = None
    """Why the provider refused this one request."""
    probabilities: dict[str, float] | None = None
    """Of each word that may be answered, where the provider weighs them itself; they add up to 1."""

    def to_json(self) -> str:
        """Return all of it but the error, compactly."""
        tokens = [[token.text, token.logprob, token.candidates] for token in self.tokens]
        counts = (self.latency_s, self.prompt_tokens, self.completion_tokens, self.finish_reason)
        weighed = () if self.probabilities is None else (None, self.probabilities)
        return json.dumps([self.text, tokens, *counts, *weighed], separators=(",", ":"))

    @classmethod
    def from_json(cls, written: str) -> Reply:
        """Return what `to_json` wrote."""
        text, tokens, *counts = json.loads(written)
        return cls(text, tuple(Token(*token) for token in tokens), *counts)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is asked: at temperature 0, for so many tokens, with their log-probabilities."""

    model: str
    max_tokens: int
    top_logprobs: int = 20
    """Likeliest tokens to be told of at each place; OpenAI gives 20 at most."""
    question: Literal["choice", "score"] | None = None
    """What the question is as a decision: which of `options`, or which of these levels; None is none."""
    options: tuple[str, ...] = ()
    """The words that may be answered, in the task's order."""
    ask: Literal["auto", "decisions", "completions"] = "auto"
    """How it is asked; `auto` asks for decisions where the provider says that the model gives them."""
    tools: str | None = None
    """Functions of which one is to be called, as JSON; None where the answer is in words."""

    @property
    def patience_s(self) -> float:
        """How long an answer is waited for."""
        return _SILENCE_S + _SECONDS_PER_TOKEN * self.max_tokens

    def body(self, messages: Messages, manner: Manner | None = None) -> bytes:
        """Return the body of the request as JSON, always in the same order; as meant, or in the model's manner."""
        asked = self.asked(messages)
        return orjson.dumps(manner.fit(asked) if manner else asked, option=orjson.OPT_SORT_KEYS)

    def asked(self, messages: Messages) -> dict[str, Any]:
        """Return the body of the request as it is meant."""
        called = {} if self.tools is None else {"tools": json.loads(self.tools), "tool_choice": "required"}
        return {
            "model": self.model,
            "messages": messages,
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": self.top_logprobs,
        } | called


def read_reply(completion: Any, latency_s: float | None = None) -> Reply:
    """Read the JSON of a chat completion. What is no completion is a reply with an error."""
    try:
        choice, usage = completion["choices"][0], completion.get("usage") or {}
        return Reply(
            text=_said(choice["message"]),
            tokens=_tokens(choice),
            latency_s=latency_s,
            prompt_tokens=usage.get("prompt_tokens") or 0,
            completion_tokens=usage.get("completion_tokens") or 0,
            finish_reason=choice.get("finish_reason"),
        )
    except (AttributeError, IndexError, KeyError, TypeError):
        return Reply(None, latency_s=latency_s, error=f"no chat completion: {json.dumps(completion)[:200]}")


def _said(message: dict[str, Any]) -> str | None:
    """What a message says; a call as JSON of its name and arguments, and several as a list of these."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    if not calls:
        return message.get("content")
    said = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
    return json.dumps(said if len(said) > 1 else said[0], ensure_ascii=False)


def _tokens(choice: dict[str, Any]) -> tuple[Token, ...]:
    return tuple(
        # Two candidates may read the same; the likelier one, which comes first, wins.
        Token(
            each["token"],
            each["logprob"],
            {other["token"]: other["logprob"] for other in reversed(each.get("top_logprobs") or ())},
        )
        for each in (choice.get("logprobs") or {}).get("content") or ()
    )
