"""What training and answers cost, from the prices that a task states or the dated ones in `prices.yaml`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

from finetune_assets.provider import local_server
from finetune_assets.task import Task
from finetune_assets.task.costs import Prices, TokenPrices
from finetune_assets.training_file.target import base_of, known_as

FREE = TokenPrices(input=0, cached_input=0, output=0)
LOCAL = Prices(training=0, base=FREE, fine_tuned=FREE, source="the local server, whose machine is yours")


def prices_of(task: Task) -> Prices:
    """Return the prices of the task's base model at its provider; those that are not known are None in it.

    What the task itself states goes first. A fine-tuned base model (`ft:<base>:…`) costs what its base costs.
    """
    if task.prices:
        return task.prices
    # Another server on this machine may hand on to one that costs.
    if task.provider == "local" or local_server.keys_at(task.provider) is not None:
        return LOCAL
    return _table().get(known_as(task.provider), {}).get(base_of(task.base_model), Prices())


def models(provider: str) -> list[str]:
    """List the base models of a provider whose training has a known price."""
    return [model for model, prices in _table().get(known_as(provider), {}).items() if prices.training is not None]


def training_cost(task: Task, tokens: int, epochs: int) -> float | None:
    """Return the USD for training on `tokens` tokens, `epochs` times; None where the price is not known."""
    price = prices_of(task).training
    return None if price is None else price * tokens * epochs / 1e6


def expected_epochs(n_epochs: int | Literal["auto"], n_examples: int) -> int:
    """Return how often the provider will go through the file.

    For `auto` the rule that OpenAI's cookbook gives ("Data preparation and analysis for chat model fine-tuning"):
    3 epochs, up to 25 so that 100 examples are seen, fewer beyond 25,000.
    """
    if n_epochs != "auto":
        return n_epochs
    if n_examples * 3 < 100:
        return min(25, 100 // max(n_examples, 1))
    if n_examples * 3 > 25_000:
        return max(1, 25_000 // n_examples)
    return 3


@cache
def _table() -> dict[str, dict[str, Prices]]:
    # Only strings: a day is not turned into a date, which nobody computes with.
    read = yaml.load(files("finetune_assets.provider").joinpath("prices.yaml").read_text(), yaml.BaseLoader)  # noqa: S506
    return {
        provider: {model: Prices.model_validate(price) for model, price in models.items()}
        for provider, models in read.items()
    }
