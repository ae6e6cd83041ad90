"""What training will cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.provider import pricing
from finetune_assets.provider.pricing import expected_epochs, prices_of, training_cost
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task


def task(model: str, provider: str = "openai", **changes: Any) -> Task:
    return make_task(base_model=model, provider=provider, **changes)


def test_a_price_is_tokens_times_epochs_times_the_price_of_a_million() -> None:
    # 24,300 tokens, 2 epochs, 25 USD for a million: 0.0243 * 2 * 25 = 1.215
    assert training_cost(task("gpt-4o-2024-08-06"), 24_300, 2) == pytest.approx(1.215)


def test_a_fine_tuned_model_trains_at_the_price_of_its_base() -> None:
    tuned = "ft:gpt-4o-mini-2024-07-18:org:cells:abc"
    assert training_cost(task(tuned), 1_000_000, 1) == pytest.approx(3.0)


def test_the_local_server_costs_nothing() -> None:
    assert training_cost(task("gpt-4o-2024-08-06", "local"), 10**9, 50) == 0


@pytest.mark.parametrize(("model", "provider"), [("llama", "openai"), ("gpt-4o-2024-08-06", "https://host/v1")])
def test_an_unknown_price_is_none_and_not_zero(model: str, provider: str) -> None:
    assert training_cost(task(model, provider), 1000, 1) is None


def test_openai_has_its_prices_by_its_base_url_too() -> None:
    assert training_cost(task("gpt-4o-2024-08-06", "https://api.openai.com/v1"), 1_000_000, 1) == 25


def test_another_server_on_this_machine_is_not_taken_to_be_free() -> None:
    assert training_cost(task("gpt-4o-2024-08-06", "http://127.0.0.1:9/v1"), 1_000_000, 1) is None


def test_the_prices_that_a_task_states_go_first() -> None:
    stated = task("gpt-4o-2024-08-06", "https://host/v1", prices={"training": 10, "hosting_usd_per_hour": 2})
    assert training_cost(stated, 1_000_000, 3) == pytest.approx(30)
    assert training_cost(task("gpt-4o-2024-08-06", "local", prices={"training": 10}), 1_000_000, 1) == 10


@pytest.mark.parametrize("model", sorted(pricing.models("openai")))
def test_every_listed_price_has_its_day_and_its_source_and_training_makes_answers_dearer(model: str) -> None:
    found = prices_of(task(model))
    assert found.source.startswith("https://") and len(found.as_of) == len("2026-08-05")
    assert found.training and found.base and found.fine_tuned
    assert found.fine_tuned.input > found.base.input and found.fine_tuned.output > found.base.output
    for tokens in (found.base, found.fine_tuned):
        assert tokens.cached_input is not None and tokens.cached_input < tokens.input < tokens.output


@pytest.mark.parametrize("model", ["gpt-6-luna", "gpt-6.1-terra", "gpt-6-sol"])
def test_a_model_that_cannot_be_trained_has_a_price_of_its_answers_alone(model: str) -> None:
    found = prices_of(task(model))
    assert found.base and found.training is None and found.fine_tuned is None
    assert model not in pricing.models("openai")


@pytest.mark.parametrize(
    ("n_examples", "epochs"),
    # 10 examples: 100 / 10; 33 are just too few for 3 epochs of 100; 12,501: 25,000 // 12,501; never 0
    [(10, 10), (2, 25), (33, 3), (34, 3), (8_333, 3), (12_501, 1), (10_000, 2), (100_000, 1)],
)
def test_auto_epochs_follow_the_cookbook(n_examples: int, epochs: int) -> None:
    assert expected_epochs("auto", n_examples) == epochs


@given(n_epochs=st.integers(1, 50), n_examples=st.integers(0, 10**6))
def test_given_epochs_are_taken_as_they_are(n_epochs: int, n_examples: int) -> None:
    assert expected_epochs(n_epochs, n_examples) == n_epochs


def test_answers_in_openais_batches_cost_half() -> None:
    assert prices_of(task("gpt-4o-2024-08-06")).batch_share == 0.5
    assert prices_of(task("gpt-4o-2024-08-06", "local")).batch_share == 1
