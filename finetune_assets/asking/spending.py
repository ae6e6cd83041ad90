"""What a region's training will cost, and whether the money is well spent: fine-tuning against retrieval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from upath import UPath

from finetune_assets.evaluation import retrieval_costs
from finetune_assets.provider import pricing
from finetune_assets.task import Task
from finetune_assets.training_file import jsonl, tokens

N_MEASURED = 1000
"""Examples whose answers are counted: more do not change a mean."""


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
    return Estimate(n_tokens, epochs, pricing.training_cost(task, n_tokens, epochs))


def against_retrieval(
    task: Task, estimated: Estimate, train: UPath, n_examples: int
) -> retrieval_costs.Comparison | None:
    """Compare with retrieval, for a task that says what its model is for; None also where a price is not known.

    A request and its answer are taken to be as long as those of the training file, unless the task says otherwise.
    """
    if task.costs is None or estimated.cost_usd is None or not n_examples:
        return None
    counted = [tokens.count(answer) for answer in islice(_answers(train), N_MEASURED)]
    answer_tokens = sum(counted) / max(len(counted), 1)
    return retrieval_costs.compare(
        task.costs,
        pricing.prices_of(task),
        training_usd=estimated.cost_usd,
        prompt_tokens=max(0.0, estimated.tokens / n_examples - answer_tokens),
        answer_tokens=answer_tokens,
    )


def _answers(train: UPath) -> Iterator[str]:
    for _, example in jsonl.lines(train):
        if isinstance(example, dict):
            answer = example["messages"][-1]
            yield str(answer.get("content") or answer.get("tool_calls"))
