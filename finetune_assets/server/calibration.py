"""A calibrator that is registered with a fine-tuned model: which questions it is for, and what it makes of an answer.

The server fits nothing and knows no task. Whoever trained the model has fitted a curve on examples that the model did
not learn from, and says here what the curve is, which options it is for, and in which conversation they were asked. It
is in the model's row, so that every server answers by it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from finetune_assets.server.api.wire import RequestBody

_NEAREST = 1e-6
"""So far from 0 and 1 probabilities are kept before a logarithm of odds is taken."""
_SMALLEST = 1e-12
_ANY = "{question}"
Probability = Annotated[float, Field(ge=0, le=1)]
Some = Annotated[str, StringConstraints(min_length=1)]


class LogOdds(RequestBody):
    """The log odds of p become a * log(p) - b * log(1 - p) + c: beta calibration, and with a = b Platt scaling."""

    type: Literal["log_odds"]
    a: Annotated[float, Field(ge=0)]
    b: Annotated[float, Field(ge=0)]
    c: float

    def applied(self, p: Sequence[float]) -> list[float]:
        """Calibrate the probabilities of two options, the positive one first."""
        kept = min(max(p[0], _NEAREST), 1 - _NEAREST)
        positive = _sigmoid(self.a * math.log(kept) - self.b * math.log1p(-kept) + self.c)
        return [positive, 1 - positive]


class Points(RequestBody):
    """Reads p off a line through points that do not fall, level beyond the first and the last: isotonic regression."""

    type: Literal["points"]
    scores: Annotated[list[Probability], Field(min_length=1, max_length=10_000)]
    probabilities: Annotated[list[Probability], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _rise(self) -> Points:
        if len(self.scores) != len(self.probabilities) or any(
            list(values) != sorted(values) for values in (self.scores, self.probabilities)
        ):
            raise ValueError("scores and probabilities must be as many and must not fall")
        return self

    def applied(self, p: Sequence[float]) -> list[float]:
        """Calibrate the probabilities of two options, the positive one first."""
        place = bisect_right(self.scores, p[0])
        if place in (0, len(self.scores)):
            positive = self.probabilities[0 if place == 0 else -1]
        else:
            (x0, x1), (y0, y1) = (values[place - 1 : place + 1] for values in (self.scores, self.probabilities))
            positive = y0 + (y1 - y0) * (p[0] - x0) / (x1 - x0)
        return [positive, 1 - positive]


class Temperature(RequestBody):
    """Each of the probabilities is raised to `slope`, one over the temperature; then they add up to 1 again."""

    type: Literal["temperature"]
    slope: Annotated[float, Field(ge=0)]

    def applied(self, p: Sequence[float]) -> list[float]:
        """Calibrate the probabilities of any number of options."""
        logs = [self.slope * math.log(max(value, _SMALLEST)) for value in p]
        shares = [math.exp(value - max(logs)) for value in logs]
        return [share / math.fsum(shares) for share in shares]


class Cumulative(RequestBody):
    """The log odds of being above each level become slope times as large plus `intercept`: proportional odds."""

    type: Literal["cumulative"]
    slope: Annotated[float, Field(gt=0)]
    intercept: float

    def applied(self, p: Sequence[float]) -> list[float]:
        """Calibrate the probabilities of ordered levels, the lowest first."""
        above = [math.fsum(p[place:]) for place in range(1, len(p))]
        kept = [min(max(value, _NEAREST), 1 - _NEAREST) for value in above]
        moved = [_sigmoid(self.slope * (math.log(value) - math.log1p(-value)) + self.intercept) for value in kept]
        ends = [1.0, *moved, 0.0]
        return [high - low for high, low in pairwise(ends)]


_FITTING = {"predicate": ("log_odds", "points"), "choice": ("temperature",), "score": ("cumulative",)}


class AskedMessage(RequestBody):
    """A message of the conversation in which the calibrated questions were asked, without its images."""

    role: Literal["system", "user", "assistant"]
    text: Annotated[str, StringConstraints(max_length=1 << 20)] | None
    """`{question}` in it stands for any text; None is any message of this role, or none."""

    def fits(self, message: dict[str, Any]) -> bool:
        """Say whether a chat message may be this one."""
        if message["role"] != self.role:
            return False
        content = message["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        said = "".join(part["text"] for part in parts if part["type"] == "text")
        if self.text is None:
            return True
        before, any_text, after = self.text.partition(_ANY)
        if not any_text:
            return said == before
        return said.startswith(before) and said.endswith(after) and len(said) >= len(before) + len(after)


class Calibration(RequestBody):
    """What is registered with a model."""

    kind: Literal["predicate", "choice", "score"]
    options: Annotated[list[Some], Field(min_length=2, max_length=255)]
    """What the model answers: of a predicate the words for true and for false, of a score its levels in order."""
    curve: Annotated[LogOdds | Points | Temperature | Cumulative, Field(discriminator="type")]
    asked: Annotated[list[AskedMessage], Field(max_length=100)]
    """The conversation in which they were asked; it is calibrated nowhere else."""
    threshold: Probability = 0.5
    """From this calibrated probability on a predicate counts as true."""
    least: Probability | None = None
    """How sure an answer must be to be given without a person; None where nothing was chosen."""

    @model_validator(mode="after")
    def _belongs(self) -> Calibration:
        if self.curve.type not in _FITTING[self.kind]:
            raise ValueError(f"a curve of the type {self.curve.type!r} is not for {self.kind} questions")
        if len(set(self.options)) != len(self.options) or (self.kind == "predicate" and len(self.options) != 2):
            raise ValueError("options must differ, and a predicate has two")
        return self

    def is_for(self, options: Sequence[str], messages: Sequence[dict[str, Any]], *, itself: bool) -> bool:
        """Say whether a question is one that this was fitted for.

        Args:
            options: what it may be answered with; a choice's may come in another order.
            messages: the conversation.
            itself: whether the conversation asks the question, so that the model is asked as it was then.
        """
        same = list(options) == self.options if self.kind == "score" else set(options) == set(self.options)
        wanted = list(self.asked)
        if len(wanted) == len(messages) + 1 and wanted[0].role == "system" and wanted[0].text is None:
            wanted = wanted[1:]
        return (
            itself
            and same
            and len(options) == len(self.options)
            and len(wanted) == len(messages)
            and all(one.fits(message) for one, message in zip(wanted, messages, strict=True))
        )

    def applied(self, options: Sequence[str], p: Sequence[float]) -> list[float]:
        """Calibrate the probabilities of options, which may come in another order."""
        by_option = dict(zip(options, p, strict=True))
        made = dict(zip(self.options, self.curve.applied([by_option[o] for o in self.options]), strict=True))
        return [made[option] for option in options]

    def is_sure(self, options: Sequence[str], p: Sequence[float]) -> bool:
        """Say whether an answer of these calibrated probabilities may be given without a person."""
        if self.kind != "predicate":
            return max(p) >= (self.least or 0)
        positive = dict(zip(options, p, strict=True))[self.options[0]]
        return (positive if positive >= self.threshold else 1 - positive) >= (self.least or 0)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
