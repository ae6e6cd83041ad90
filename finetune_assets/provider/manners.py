"""How a model may be asked: what its provider refuses is left out, once it has said so, and no question fails for it.

Providers differ in the parameters they take: newer models of OpenAI's want `max_completion_tokens` in place of
`max_tokens` and refuse a temperature while they reason, others give 5 candidates for a token or none. What a refusal
names is left out, and kept in mind for the model once a question was answered without it.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from typing import Any

import openai

_FEWER = 5
"""Candidates for a token that most providers give who do not give 20."""
_KNOWN = ("top_logprobs", "max_completion_tokens", "max_tokens", "temperature", "reasoning_effort", "logprobs")
"""Parameters that a question can do without; one whose name holds another's comes before that."""
_REASONING = re.compile(r"(^|/)gpt-(5\.[1-9]|[6-9])")
"""Families that reason unless they are asked not to, and then take a temperature and give log-probabilities."""
_ABOUT_LENGTH = re.compile(r"context.?length|context.?window|too (many|long)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Manner:
    """How one model is asked."""

    lengths: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    """Names for the longest answer, of which the first is used; none where the model takes none."""
    temperature: bool = True
    candidates: int | None = None
    """Most candidates for a token that it gives; None is no limit that is known, -1 that none may be asked for."""
    logprobs: bool = True
    no_reasoning: bool = False
    """Whether it has to be asked not to reason."""

    @classmethod
    def usual(cls, model: str) -> Manner:
        """Return how a model of this name is asked until it refuses something."""
        if _REASONING.search(model.removeprefix("ft:")):
            return cls(lengths=("max_completion_tokens", "max_tokens"), no_reasoning=True)
        return cls()

    def fit(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Put a request into this manner; it has `max_tokens`, `temperature`, `logprobs` and `top_logprobs`."""
        body = dict(asked)
        longest = body.pop("max_tokens")
        if self.lengths:
            body[self.lengths[0]] = longest
        if not self.temperature:
            del body["temperature"]
        if self.candidates is not None:
            body["top_logprobs"] = min(body["top_logprobs"], self.candidates)
        if not self.logprobs:
            del body["logprobs"]
        if not self.logprobs or body["top_logprobs"] < 0:
            del body["top_logprobs"]
        if self.no_reasoning:
            body["reasoning_effort"] = "none"
        return body

    def without(self, parameter: str) -> Manner:
        """Return the manner for a model that has refused a parameter that was sent."""
        match parameter:
            case "max_tokens" | "max_completion_tokens":
                return replace(self, lengths=self.lengths[1:])
            case "temperature":
                return replace(self, temperature=False)
            case "top_logprobs":
                return replace(self, candidates=_FEWER if self.candidates is None else -1)
            case "logprobs":
                return replace(self, logprobs=False)
            case _:
                return replace(self, no_reasoning=False)

    def __str__(self) -> str:
        said = [] if self.lengths else ["no limit of tokens"]
        said += [f"{self.lengths[0]} in place of max_tokens"] if self.lengths[:1] == ("max_completion_tokens",) else []
        said += [] if self.temperature else ["no temperature"]
        if not self.logprobs:
            said.append("no logprobs")
        elif self.candidates is not None:
            said.append(f"top_logprobs of {self.candidates} at most" if self.candidates >= 0 else "no top_logprobs")
        said += ["reasoning_effort none"] if self.no_reasoning else []
        return ", ".join(said) or "every parameter"


class Manners:
    """What models have been found to take, by provider and model. Threads share it."""

    def __init__(self) -> None:
        self._learned: dict[tuple[str, str], Manner] = {}
        self._lock = threading.Lock()

    def of(self, url: str, model: str) -> Manner:
        """Return how a model is asked."""
        with self._lock:
            return self._learned.get((url, model)) or Manner.usual(model)

    def learn(self, url: str, model: str, manner: Manner) -> bool:
        """Keep a manner in which a model has answered; whether it is new."""
        with self._lock:
            new = self._learned.get((url, model)) != manner
            self._learned[url, model] = manner
            return new


LEARNED = Manners()
"""What this process has learned."""


def refused_parameter(error: openai.APIStatusError, sent: dict[str, Any]) -> str | None:
    """Name the parameter for which a request was refused, if that is one that a question can do without."""
    said = error.body if isinstance(error.body, dict) else {}
    words = f"{said.get('message') or error.message} {said.get('detail') or ''}"
    if said.get("code") == "context_length_exceeded" or _ABOUT_LENGTH.search(words):
        return None
    known = [parameter for parameter in _KNOWN if parameter in sent]
    if said.get("param") in known:
        return said["param"]
    places = {p: found.start() for p in known if (found := re.search(rf"(?<![a-z_]){p}(?![a-z_])", words))}
    return min(places, key=places.__getitem__, default=None)
