"""What a region's training and its contest will cost, and whether that is well spent: fine-tuning against retrieval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from upath import UPath

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation import retrieval_costs
from finetune_assets.provider import pricing
from finetune_assets.task import Task
from finetune_assets.task.arms import (
    Arm,
    CascadeArm,
    DecisionsArm,
    FewShotArm,
    FrontierArm,
    OptimisedPromptArm,
    name_of,
)
from finetune_assets.task.costs import Prices
from finetune_assets.training_file import jsonl, tokens
from finetune_assets.training_file.answer_grader import FIELD

WRITTEN_TOKENS = 2048
"""The most that a proposal for a prompt may have."""
N_MEASURED = 1000
"""Examples whose answers are counted: more do not change a mean."""
_ANSWERS = 8
"""To each prompt, in reinforcement at `compute_multiplier` 1."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What training will take."""

    tokens: int
    """Of one epoch."""
    epochs: int
    cost_usd: float | None
    """None where the price is not known."""

    def __str__(self) -> str:
        cost = "price unknown" if self.cost_usd is None else f"{self.cost_usd:.2f} USD"
        return f"{self.tokens:,} tokens, {self.epochs} epochs, {cost}"


def estimate(task: Task, n_tokens: int, n_examples: int) -> Estimate:
    """Return what training on a file will take, all epochs of it."""
    epochs = pricing.expected_epochs(task.method.n_epochs, n_examples)
    if task.method.type == "reinforcement":  # each prompt is answered several times
        n_tokens *= max(2, round(_ANSWERS * (task.method.compute_multiplier or 1)))
    return Estimate(n_tokens, epochs, pricing.training_cost(task, n_tokens, epochs))


@dataclass(frozen=True, slots=True)
class Length:
    """Mean tokens of a question and of its answer."""

    prompt: float
    answer: float


@dataclass(frozen=True, slots=True)
class ArmCost:
    """What asking one arm of a contest takes."""

    name: str
    usd: float | None
    """None where the price is not known. What was asked before costs nothing, and is counted all the same."""

    def __str__(self) -> str:
        return f"{self.name} {'price unknown' if self.usd is None else f'{self.usd:.2f} USD'}"


def length_of(train: UPath, n_tokens: int, n_examples: int) -> Length:
    """Measure a training file of so many tokens: an arm is asked as long questions, and answers as long."""
    counted = [tokens.count(answer) for answer in islice(_answers(train), N_MEASURED)]
    answer = sum(counted) / max(len(counted), 1)
    return Length(max(0.0, n_tokens / max(n_examples, 1) - answer), answer)


def contest(task: Task, arms: Iterable[Arm], n: Mapping[str, int], length: Length) -> list[ArmCost]:
    """Estimate what each arm costs that the benchmark alone does not ask.

    Args:
        task: Whose contest it is.
        arms: Its arms.
        n: Examples by split.
        length: Of a question and its answer.
    """
    chosen = list(arms)
    handed_to = {arm.to for arm in chosen if isinstance(arm, CascadeArm)}
    found = []
    for arm in chosen:
        if arm.kind in ("tuned", "cascade"):
            continue
        asked = n.get("test", 0) + (n.get("calibration", 0) if name_of(arm) in handed_to else 0)
        price = pricing.prices_of(asked_in(task, arm)).base
        prompt = length.prompt * (arm.examples + 1 if isinstance(arm, FewShotArm) else 1)
        usd = None if price is None else asked * (prompt * price.input + length.answer * price.output) / 1e6
        if isinstance(arm, OptimisedPromptArm) and usd is not None and price is not None:
            usd += arm.answers * (prompt * price.input + length.answer * price.output) / 1e6
            usd = _with_proposals(task, arm, usd)
        found.append(ArmCost(name_of(arm), usd))
    return found


def _with_proposals(task: Task, arm: OptimisedPromptArm, usd: float) -> float | None:
    """Add what all proposals cost, taken to be read and written as long as they may be."""
    elsewhere = {"provider": arm.provider, "base_model": arm.model, "deployment": None} if arm.provider else {}
    prices = {"prices": Prices(base=arm.prices) if arm.prices else None} if arm.provider else {}
    price = pricing.prices_of(task.model_copy(update=elsewhere | prices)).base
    return None if price is None else usd + arm.proposals * WRITTEN_TOKENS * (2 * price.input + price.output) / 1e6


def asked_in(task: Task, arm: Arm) -> Task:
    """Return the task as an arm is asked it: the same, where the arm names another model at that one's provider."""
    if not isinstance(arm, FrontierArm | DecisionsArm) or arm.provider is None:
        return task
    prices = Prices(base=arm.prices) if arm.prices else None
    elsewhere = {"provider": arm.provider, "base_model": arm.model, "prices": prices, "deployment": None}
    return task.model_copy(update=elsewhere)


def require_affordable(costs: Iterable[ArmCost], name: str, task: Task, spent_usd: float, budget: float | None) -> None:
    """Refuse to ask an arm for which the budget does not suffice.

    Args:
        costs: Of all arms.
        name: The arm that is to be asked.
        task: Whose contest it is.
        spent_usd: On the region's training.
        budget: For that and for all arms together; None is no limit.

    Raises:
        EvaluationError: it does not; arms that cost nothing are asked all the same.
    """
    by_name = {cost.name: cost.usd for cost in costs}
    own = by_name.get(name, 0.0)
    if budget is None or own == 0 or task.checks.get("within_budget", "error") != "error":
        return
    if own is None:
        raise EvaluationError(
            f"nobody knows what its answers cost, and the budget is {budget:.2f} USD; state its `prices`, or `checks: "
            "{within_budget: warn}` to go on all the same"
        )
    together = spent_usd + sum(usd or 0.0 for usd in by_name.values())
    if together > budget:
        raise EvaluationError(
            f"asking it costs about {own:.2f} USD, training and arms together {together:.2f} USD, and the budget is "
            f"{budget:.2f} USD; raise budget_usd or leave an arm out"
        )


def against_retrieval(
    task: Task, estimated: Estimate, train: UPath, n_examples: int
) -> retrieval_costs.Comparison | None:
    """Compare with retrieval, for a task that says what its model is for; None also where a price is not known.

    A request and its answer are taken to be as long as those of the training file, unless the task says otherwise.
    """
    if task.costs is None or estimated.cost_usd is None or not n_examples:
        return None
    length = length_of(train, estimated.tokens, n_examples)
    return retrieval_costs.compare(
        task.costs,
        pricing.prices_of(task),
        training_usd=estimated.cost_usd,
        prompt_tokens=length.prompt,
        answer_tokens=length.answer,
    )


def _answers(train: UPath) -> Iterator[str]:
    for _, example in jsonl.lines(train):
        if isinstance(example, dict):
            answer = example["messages"][-1]
            yield str(example.get(FIELD) or answer.get("content") or answer.get("tool_calls"))
