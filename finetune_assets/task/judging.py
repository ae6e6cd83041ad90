"""What a task may say of how its models are judged: the benchmark, how answers are used, and who becomes champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from finetune_assets.task.arms import Arm, ArmRule, in_full, require_contest
from finetune_assets.task.strict import Strict

DecidingMetric = Literal[
    "accuracy",
    "balanced_accuracy",
    "quadratic_agreement",
    "within_tolerance",
    "contains_answer",
    "exact_match",
    "token_f1",
    "exact_call",
    "right_arguments",
]  # fmt: skip
DECIDING: dict[str, tuple[DecidingMetric, ...]] = {
    "binary": ("accuracy", "balanced_accuracy"),
    "choice": ("accuracy", "balanced_accuracy"),
    "score": ("quadratic_agreement", "accuracy"),
    "number": ("within_tolerance",),
    "text": ("contains_answer", "exact_match", "token_f1"),
    "call": ("exact_call", "right_arguments"),
}
"""Metrics that may decide, by kind of answer; the first one does where the task names none."""
Share = Annotated[float, Field(gt=0, lt=1)]


class MistakeCosts(Strict):
    """What the two kinds of mistakes cost, in any unit: their ratio alone counts."""

    missed: float = Field(gt=0, description="Of a positive example that is called negative.")
    false_alarm: float = Field(gt=0, description="Of a negative example that is called positive.")


class OperatingPoint(Strict):
    """From which probability on an answer is the positive one.

    Exactly one of the first three keys says by what the threshold is chosen on `calibration`; `test` judges it.
    """

    sensitivity: Share | None = None
    """Share of positive examples that must be found; of thresholds that do, the one with the fewest false alarms."""
    precision: Share | None = None
    """Share of positive answers that must be right; of thresholds that do, the one that finds the most."""
    costs: MistakeCosts | None = None
    """What mistakes cost; the threshold with the least cost."""
    prevalence: Share | None = None
    """Share of positive examples where the model will be used; predictive values are given for it."""

    @model_validator(mode="after")
    def _one_way_of_choosing(self) -> OperatingPoint:
        if sum(way is not None for way in (self.sensitivity, self.precision, self.costs)) != 1:
            raise ValueError("exactly one of sensitivity, precision and costs must be given")
        return self


class Defer(Strict):
    """Which answers the model gives by itself; all others are for a person."""

    target_accuracy: float = Field(gt=0.5, lt=1, description="Share of those answers that must be right.")
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="How sure that must be, given the calibration split alone."
    )


class Benchmark(Strict):
    """How models are asked the held-out examples, and what decides."""

    concurrency: int | None = Field(
        default=None, ge=1, le=64, description="Most questions at once; by default 16 of `local` and 64 of others."
    )
    batch: bool = Field(
        default=False, description="Ask in the provider's batches where it has them: cheaper at some, within a day."
    )
    ask: Literal["auto", "decisions", "completions"] = Field(
        default="auto",
        description="How words are asked for: `auto` by decisions, which weigh every word, where the provider says "
        "that the model gives them (`local` does), else by completions.",
    )
    elsewhere: int = Field(
        default=40,
        ge=0,
        le=1000,
        description="Questions of other regions, and general ones, that show what is forgotten.",
    )
    metric: DecidingMetric | None = Field(
        default=None,
        description="What decides; by default `accuracy`, `within_tolerance`, `contains_answer` or `exact_call`.",
    )
    max_failed: float = Field(
        default=0.05, ge=0, le=1, description="Largest share of requests that the model may refuse or fail."
    )
    max_unreadable: float = Field(
        default=0.1, ge=0, le=1, description="Largest share of its answers that may be unreadable."
    )
    smallest_gain: Share | None = None
    """Smallest gain that matters, such as 0.05: a check says before the upload whether the test split can show it."""
    operating_point: OperatingPoint | None = None
    """From which probability on the answer is the positive one (binary answers); by default 0.5."""
    defer: Defer | None = None
    """Which answers go to a person; by default none."""
    arms: list[ArmRule] = Field(
        default=[],
        description="What else could answer, in a contest on the same test examples; by default there is none. A word "
        "is an arm of that kind: base, decisions, few_shot, tuned, cascade; a frontier model needs a mapping.",
    )

    @model_validator(mode="after")
    def _arms_are_a_contest(self) -> Benchmark:
        require_contest(self.arms)
        return self

    @property
    def contest(self) -> tuple[Arm, ...]:
        """The arms in full, in their order."""
        return in_full(self.arms)


class Promotion(Strict):
    """When a region's new model becomes its champion."""

    by: Literal["automatic", "approval"] = Field(
        default="automatic", description="By its checks, or by a person as well."
    )
    margin: float = Field(
        default=0.02, gt=0, lt=1, description="How much worse than the best champion so far it must be shown not to be."
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=1, description="Chance of a champion without gain, over all regions and attempts."
    )
    subgroups: bool = Field(default=True, description="Whether a subgroup that became worse speaks against it.")
    forgetting: bool = Field(default=True, description="Whether what it forgot elsewhere speaks against it.")


def _promotion_tag(found: object) -> str:
    return "word" if isinstance(found, str) else "policy"


PromotionRule = Annotated[
    Annotated[Literal["automatic", "approval"], Tag("word")] | Annotated[Promotion, Tag("policy")],
    Discriminator(_promotion_tag),
]
"""A word is short for a policy that says nothing else."""
