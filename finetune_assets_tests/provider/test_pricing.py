"""What training will cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.provider.pricing import expected_epochs, training_cost


def test_a_price_is_tokens_times_epochs_times_the_price_of_a_million() -> None:
    # 24,300 tokens, 2 epochs, 25 USD for a million: 0.0243 * 2 * 25 = 1.215
    assert training_cost("gpt-4o-2024-08-06", "openai", 24_300, 2) == pytest.approx(1.215)


def test_a_fine_tuned_model_trains_at_the_price_of_its_base() -> None:
    tuned = "ft:gpt-4o-mini-2024-07-18:org:cells:abc"
    assert training_cost(tuned, "openai", 1_000_000, 1) == pytest.approx(3.0)


def test_the_local_server_costs_nothing() -> None:
    assert training_cost("gpt-4o-2024-08-06", "local", 10**9, 50) == 0


@pytest.mark.parametrize(("model", "provider"), [("llama", "openai"), ("gpt-4o-2024-08-06", "https://host/v1")])
def test_an_unknown_price_is_none_and_not_zero(model: str, provider: str) -> None:
    assert training_cost(model, provider, 1000, 1) is None


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
