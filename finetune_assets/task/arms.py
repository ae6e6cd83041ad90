"""The arms of a contest: everything that a user could do to have the questions answered, beside fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from finetune_assets.task.costs import TokenPrices
from finetune_assets.task.provider import ProviderName
from finetune_assets.task.strict import Strict, Word

PERSON = "person"
"""What a cascade hands over to where it names no arm."""
ArmName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Kind = Literal["base", "decisions", "few_shot", "frontier", "tuned", "cascade", "optimised_prompt"]


class _Named(Strict):
    name: ArmName | None = Field(default=None, description="What it is called in the contest; by default its kind.")


class BaseArm(_Named):
    """The base model, prompted: it writes its answer."""

    kind: Literal["base"] = "base"


class DecisionsArm(_Named):
    """A model asked by `/v1/decisions`, which weighs every word: the base model where its provider has that."""

    kind: Literal["decisions"] = "decisions"
    provider: ProviderName | None = Field(default=None, description="Of another model; by default the task's own.")
    model: Word | None = Field(
        default=None, description="Another model, such as gpt-6-luna; by default the base model."
    )
    prices: TokenPrices | None = Field(default=None, description="What its answers cost; known for OpenAI's models.")

    @model_validator(mode="after")
    def _another_model_is_named_whole(self) -> DecisionsArm:
        if (self.provider is None) != (self.model is None):
            raise ValueError("another model for decisions needs both, `provider` and `model`")
        return self


class FewShotArm(_Named):
    """The base model, shown the labelled training examples first that are most like each question."""

    kind: Literal["few_shot"] = "few_shot"
    examples: int = Field(default=4, ge=1, le=32, description="Training examples that each question shows first.")


class FrontierArm(_Named):
    """Another model, prompted as the base model is. Without a key for its provider it is left out, and that is said."""

    kind: Literal["frontier"] = "frontier"
    provider: ProviderName
    """Who serves it: local, openai, azure or a base URL."""
    model: Word
    """What that provider calls it."""
    prices: TokenPrices | None = Field(default=None, description="What its answers cost; known for OpenAI's models.")


class TunedArm(_Named):
    """The region's fine-tuned model, its probabilities calibrated."""

    kind: Literal["tuned"] = "tuned"


class CascadeArm(_Named):
    """The fine-tuned model first; what it is unsure of goes to another arm, or to a person.

    From which probability on it is sure is chosen on the calibration split alone.
    """

    kind: Literal["cascade"] = "cascade"
    to: ArmName = Field(default=PERSON, description="`person`, or the name of another arm.")
    target_accuracy: float | None = Field(
        default=None,
        gt=0.5,
        lt=1,
        description="Share of its own answers that must be right where the rest goes to a person; by default that of "
        "`benchmark.defer`, else 0.9.",
    )

    @model_validator(mode="after")
    def _a_target_is_for_people(self) -> CascadeArm:
        if self.target_accuracy is not None and self.to != PERSON:
            raise ValueError(
                f"target_accuracy is of answers that are given without a person, and this cascade goes to {self.to} "
                "as far as that makes more answers right: leave it out"
            )
        return self


class OptimisedPromptArm(_Named):
    """The base model under a system prompt that was searched for.

    It is written from the training split and chosen on the validation split, by another model or by the base model
    itself. Without the package gepa the arm is left out, and that is said.
    """

    kind: Literal["optimised_prompt"] = "optimised_prompt"
    answers: int = Field(default=400, ge=60, le=100_000, description="The most answers that the search may ask for.")
    proposals: int = Field(default=20, ge=1, le=1000, description="The most prompts that it may have written.")
    provider: ProviderName | None = Field(
        default=None, description="Of the model that writes prompts; by default the task's own."
    )
    model: Word | None = Field(default=None, description="The model that writes prompts; by default the base model.")
    prices: TokenPrices | None = Field(default=None, description="What it costs; known for OpenAI's models.")

    @model_validator(mode="after")
    def _another_model_is_named_whole(self) -> OptimisedPromptArm:
        if (self.provider is None) != (self.model is None):
            raise ValueError("another model to write prompts needs both, `provider` and `model`")
        return self


Arm = BaseArm | DecisionsArm | FewShotArm | FrontierArm | TunedArm | CascadeArm | OptimisedPromptArm


def _arm_tag(found: object) -> object:
    if isinstance(found, str):
        return "word"
    return found.get("kind") if isinstance(found, dict) else getattr(found, "kind", None)


ArmRule = Annotated[
    Annotated[Literal["base", "decisions", "few_shot", "tuned", "cascade", "frontier", "optimised_prompt"], Tag("word")]
    | Annotated[BaseArm, Tag("base")]
    | Annotated[DecisionsArm, Tag("decisions")]
    | Annotated[FewShotArm, Tag("few_shot")]
    | Annotated[FrontierArm, Tag("frontier")]
    | Annotated[TunedArm, Tag("tuned")]
    | Annotated[CascadeArm, Tag("cascade")]
    | Annotated[OptimisedPromptArm, Tag("optimised_prompt")],
    Discriminator(_arm_tag),
]
"""A word is short for an arm of that kind that says nothing else."""
_BY_WORD: dict[str, type[BaseArm | DecisionsArm | FewShotArm | TunedArm | CascadeArm | OptimisedPromptArm]] = {
    "base": BaseArm,
    "decisions": DecisionsArm,
    "few_shot": FewShotArm,
    "tuned": TunedArm,
    "cascade": CascadeArm,
    "optimised_prompt": OptimisedPromptArm,
}
WITHOUT_NETWORK: tuple[Arm, ...] = (BaseArm(), DecisionsArm(), FewShotArm(), TunedArm(), CascadeArm())
"""Every arm that a provider on this machine can be asked."""


def in_full(rules: list[ArmRule]) -> tuple[Arm, ...]:
    """Return what each rule says in full.

    Raises:
        ValueError: a word that says too little.
    """
    arms: list[Arm] = []
    for rule in rules:
        if isinstance(rule, str):
            if rule == "frontier":
                raise ValueError(
                    "arms: frontier does not say which model: write {kind: frontier, provider: openai, model: ...}"
                )
            arms.append(_BY_WORD[rule]())
        else:
            arms.append(rule)
    return tuple(arms)


def name_of(arm: Arm) -> str:
    """Return what an arm is called in its contest."""
    return arm.name or arm.kind


def unfit(arm: Arm, kind: str) -> str | None:
    """Say why an arm cannot answer a task whose answers are of a kind; None where it can."""
    if arm.kind == "decisions" and kind not in ("binary", "choice", "score"):
        return f"decisions weigh the words of binary, choice and score answers, and answer.kind is {kind}"
    if arm.kind == "few_shot" and kind == "call":
        return "few_shot shows questions that are answered in words, and answer.kind is call"
    if arm.kind == "cascade" and kind == "number":
        return "a cascade needs answers with a probability, and numbers have none"
    return None


def require_contest(rules: list[ArmRule]) -> None:
    """Refuse arms that are no contest together.

    Raises:
        ValueError: too few, two of one name, or a cascade to what is not there.
    """
    arms = in_full(rules)
    if len(arms) == 1:
        raise ValueError(f"arms names {name_of(arms[0])} alone, and a contest needs two or more, such as [base, tuned]")
    names = [name_of(arm) for arm in arms]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"arms has two that are called {twice[0]}: give each a `name`")
    if PERSON in names:
        raise ValueError(f"arms has one that is called {PERSON}, which is what a cascade calls people: rename it")
    asked = [name_of(arm) for arm in arms if arm.kind not in ("tuned", "cascade")]
    for arm in arms:
        if isinstance(arm, CascadeArm) and arm.to not in (PERSON, *asked):
            raise ValueError(
                f"arms: {name_of(arm)} goes to {arm.to}, which is no other arm; it may go to "
                f"{', '.join((PERSON, *asked))}"
            )
