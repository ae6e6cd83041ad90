"""What `auto` becomes, and how the optimiser moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from finetune_assets.server.training import hyperparameters
from finetune_assets.server.training.hyperparameters import Optimiser, resolve


def auto(n_examples: int, method: str = "supervised", **asked: Any) -> dict[str, int | float]:
    options: dict[str, Any] = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"} | asked
    return resolve(method, n_examples, **options)


@given(n=st.integers(10, 50_000))
def test_auto_stays_within_openais_bounds(n: int) -> None:
    settings = auto(n)
    assert 1 <= settings["n_epochs"] <= 50
    assert 1 <= settings["batch_size"] <= 256
    assert settings["learning_rate_multiplier"] > 0


def test_little_data_is_seen_more_often() -> None:
    # 10 examples in batches of 1: 60 steps are 6 epochs. 270 in batches of 8 are 34 steps an epoch: the usual 3.
    assert auto(10) == {"n_epochs": 6, "batch_size": 1, "learning_rate_multiplier": 1.0}
    assert auto(270) == {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}


def test_only_dpo_has_a_beta() -> None:
    assert "beta" not in auto(10)
    assert auto(10, "dpo", beta="auto")["beta"] == 0.1
    assert auto(10, "dpo", beta=0.5)["beta"] == 0.5


def test_the_first_step_is_adams_own_after_clipping() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.full((2, 2), 3.0)
    optimiser = Optimiser({"lora": [weight]}, "supervised", 1.0, total_steps=20)
    assert optimiser.step(1) == pytest.approx(6.0)  # the root of four times 3 squared
    # Adam's first step is the rate itself, whatever the gradient; of the two steps of warm-up this is the first.
    assert weight.tolist() == [[pytest.approx(-5e-4 / 2, rel=1e-3)] * 2] * 2


def test_the_norm_is_that_of_all_gradients_together() -> None:
    lora, projector = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(5))
    lora.grad, projector.grad = torch.randn(3, 2), torch.randn(5)
    expected = math.sqrt(float(lora.grad.square().sum() + projector.grad.square().sum()))
    assert Optimiser({"lora": [lora], "projector": [projector]}, "dpo", 1.0, total_steps=1).step(1) == pytest.approx(
        expected
    )


def moved(total_steps: int) -> list[list[float]]:
    """A weight after each step along gradients that are always the same ones."""
    weight, unused = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.ones(2))
    optimiser = Optimiser({"lora": [weight], "projector": [unused]}, "supervised", 1.0, total_steps)
    generator = torch.Generator().manual_seed(0)
    after = []
    for step in range(1, total_steps + 1):
        weight.grad = torch.randn(4, generator=generator)
        optimiser.step(step)
        after.append(weight.tolist())
    assert unused.tolist() == [1, 1]
    return after


def test_in_the_end_the_weights_are_the_means_over_the_last_third(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = moved(total_steps=9)
    monkeypatch.setattr(hyperparameters, "_AVERAGED", 1e-9)
    own = moved(total_steps=9)
    assert averaged[:-1] == own[:-1]
    assert averaged[-1] == pytest.approx(torch.tensor(own[-3:]).mean(0).tolist(), rel=1e-5)


def test_what_a_job_asks_for_takes_the_place_of_our_own() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    given = {"learning_rate": 0.25, "warmup_ratio": 0.5, "weight_decay": 0.1, "max_grad_norm": 3.0}
    optimiser = Optimiser({"lora": [weight]}, "supervised", 1.0, 10, given)
    weight.grad = torch.tensor([3.0, 4.0])
    assert optimiser.step(5) == pytest.approx(5.0)
    (group,) = optimiser.adamw.param_groups
    assert group["top"] == pytest.approx(0.25)
    assert group["weight_decay"] == 0.1
