"""What a fine-tuning job will cost, from the dated prices in `prices.yaml`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml


def training_cost(model: str, provider: str, tokens: int, epochs: int) -> float | None:
    """Return the USD for training on `tokens` tokens, `epochs` times; None where the price is unknown.

    The local server costs nothing. A fine-tuned model (`ft:<base>:…`) trains at the price of its base.
    """
    if provider == "local":
        return 0.0
    base = model.split(":")[1] if model.startswith("ft:") else model
    price = _prices().get(provider, {}).get(base)
    return price["training_usd_per_million_tokens"] * tokens * epochs / 1e6 if price else None


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
def _prices() -> dict[str, dict[str, dict[str, Any]]]:
    return yaml.safe_load(files("finetune_assets.provider").joinpath("prices.yaml").read_text())
