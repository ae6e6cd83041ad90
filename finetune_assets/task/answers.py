"""The kinds of answers that a task can have."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from finetune_assets.task.calls import CallAnswer
from finetune_assets.task.strict import Strict, Word


class BinaryAnswer(Strict):
    """One of two words; the benchmark reads the probability of `positive` from the answer token."""

    kind: Literal["binary"]
    positive: Word = "Yes"
    """The word whose probability is told."""
    negative: Word = "No"
    """The other word."""

    @model_validator(mode="after")
    def _told_apart(self) -> BinaryAnswer:
        if self.positive.strip().lower() == self.negative.strip().lower():
            raise ValueError(f"positive and negative must differ, both are {self.positive!r}")
        return self


class ChoiceAnswer(Strict):
    """One of several words or short phrases."""

    kind: Literal["choice"]
    options: list[Word] = Field(min_length=2, description="All answers there are.")

    @model_validator(mode="after")
    def _told_apart(self) -> ChoiceAnswer:
        if len({option.strip().lower() for option in self.options}) < len(self.options):
            raise ValueError(f"options must differ in more than case, got {self.options}")
        return self


class ScoreAnswer(Strict):
    """One of several levels in an order, such as none, mild, severe: one far off is worse than one near."""

    kind: Literal["score"]
    levels: list[Word] = Field(min_length=2, max_length=10, description="All answers there are, the lowest first.")

    @property
    def options(self) -> list[str]:
        """The levels, as the words that may be answered."""
        return self.levels

    @model_validator(mode="after")
    def _told_apart(self) -> ScoreAnswer:
        if len({level.strip().lower() for level in self.levels}) < len(self.levels):
            raise ValueError(f"levels must differ in more than case, got {self.levels}")
        return self


class NumberAnswer(Strict):
    """A number, written as `template` says; an answer in which several compete cannot be read."""

    kind: Literal["number"]
    template: str = Field(default="{}", description='How the answer is written, such as "Price is ${}".')
    decimals: int = Field(default=2, ge=0, le=9, description="Digits after the point that are written.")
    minimum: float | None = None
    """Labels below it are set aside."""
    maximum: float | None = None
    """Labels above it are set aside."""
    tolerance: float = Field(
        default=0.2, gt=0, description="An answer off by less than this share of the truth is good."
    )
    tolerance_absolute: float = Field(
        default=0, ge=0, description="An answer off by less than this is good too, whatever the truth."
    )

    @model_validator(mode="after")
    def _a_place_for_the_number(self) -> NumberAnswer:
        if self.template.count("{}") != 1 or re.search(r"\d", self.template):
            raise ValueError(f'template must hold "{{}}" once and no digits, got {self.template!r}')
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum must be below maximum, got {self.minimum:g} and {self.maximum:g}")
        return self


class TextAnswer(Strict):
    """Free text; the benchmark compares its words with the true answer's."""

    kind: Literal["text"]
    max_tokens: int = Field(default=128, ge=1, le=4096, description="Room a model gets for its answer.")
    separator: str = Field(
        default="Explanation:",
        min_length=1,
        description="What stands between the answer proper, which a model must give, and its explanation.",
    )


Answer = Annotated[
    BinaryAnswer | ChoiceAnswer | ScoreAnswer | NumberAnswer | TextAnswer | CallAnswer, Field(discriminator="kind")
]
