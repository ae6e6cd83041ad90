from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.sampling import choose

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def draws(temperature: float, top_p: float, n: int = 2_000) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return [choose(LOGITS, temperature, top_p, generator) for _ in range(n)]


def test_temperature_0_takes_the_likeliest() -> None:
    assert set(draws(0, 1.0, n=5)) == {0}


def test_temperature_1_draws_with_the_models_probabilities() -> None:
    made = draws(1.0, 1.0)
    assert abs(made.count(0) / 2_000 - 0.5) < 0.04
    assert abs(made.count(1) / 2_000 - 0.3) < 0.04


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    assert set(draws(1.0, 0.5)) == {0}
    assert set(draws(1.0, 0.6)) == {0, 1}
    assert set(draws(1.0, 0.0)) == {0}


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.floats(0, 2), st.floats(0, 1), st.integers(0, 100))
def test_every_choice_is_a_token(logits: list[float], temperature: float, top_p: float, seed: int) -> None:
    token = choose(torch.tensor(logits), temperature, top_p, torch.Generator().manual_seed(seed))
    assert 0 <= token < len(logits)
