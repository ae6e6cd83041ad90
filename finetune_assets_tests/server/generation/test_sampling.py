from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.generation.sampling import choose, log_probabilities

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def drawn(temperature: float, top_p: float, n: int = 2_000) -> list[int]:
    """Tokens for n draws that are spread evenly over [0, 1)."""
    draws = [i / n for i in range(n)]
    return choose(LOGITS.expand(n, -1), [temperature] * n, [top_p] * n, draws)


def test_temperature_0_takes_the_likeliest() -> None:
    assert set(drawn(0, 1.0)) == {0}


def test_temperature_1_draws_with_the_models_probabilities() -> None:
    made = drawn(1.0, 1.0)
    assert [made.count(token) / 2_000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.001)


def test_a_higher_temperature_draws_more_evenly() -> None:
    made = drawn(2.0, 1.0)
    weights = [0.5**0.5, 0.3**0.5, 0.15**0.5, 0.05**0.5]
    assert [made.count(token) / 2_000 for token in range(4)] == pytest.approx(
        [weight / sum(weights) for weight in weights], abs=0.001
    )


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    assert set(drawn(1.0, 0.5)) == {0}
    assert set(drawn(1.0, 0.6)) == {0, 1}
    assert set(drawn(1.0, 0.0)) == {0}


def test_a_nucleus_of_many_tokens_is_found() -> None:
    flat = torch.zeros(2, 1_000)
    assert max(choose(flat.expand(2, -1), [1.0] * 2, [0.9, 0.9], [0.0, 0.9999])) < 1_000
    wide = choose(torch.zeros(500, 1_000), [1.0] * 500, [0.9] * 500, [i / 500 for i in range(500)])
    assert len(set(wide)) == 500


def test_a_forbidden_token_is_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[[0, 3]] = float("-inf")
    draws = [0.0, 0.5, 0.9999999]
    for top_p in (1.0, 0.99):
        assert set(choose(logits.expand(3, -1), [1.0] * 3, [top_p] * 3, draws)) <= {1, 2}


@given(rows=st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1), st.floats(0, 1, exclude_max=True)), min_size=2))
def test_a_row_is_chosen_as_if_it_were_alone(rows: list[tuple[float, float, float]]) -> None:
    random.seed(len(rows))
    logits = torch.tensor([[random.uniform(-20, 20) for _ in range(30)] for _ in rows])
    temperature, top_p, draws = (list(column) for column in zip(*rows, strict=True))
    alone = [
        choose(logits[i : i + 1], temperature[i : i + 1], top_p[i : i + 1], draws[i : i + 1])[0]
        for i in range(len(rows))
    ]
    assert choose(logits, temperature, top_p, draws) == alone


def test_log_probabilities_are_those_before_everything_else() -> None:
    own, ids, values = log_probabilities(LOGITS[None], [2], 2)
    assert own == pytest.approx([torch.tensor(0.15).log().item()])
    assert ids == [[0, 1]]
    assert values[0] == pytest.approx(LOGITS[:2].tolist())
