"""The same bits on any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from finetune_assets.server.devices import PRECISION
from finetune_assets.server.model.vision import BundledVision, SteadyLayerNorm
from finetune_assets.server.training import threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_products_are_the_same_bits_in_mkls_strict_mode() -> None:
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch computes with another library")
    code = "from finetune_assets.server.training.threads import same_bits; print(same_bits(2))"
    variable, value = threads.SAME_BITS
    environment = os.environ | {variable: value, PRECISION: "float32"}  # other libraries multiply bfloat16
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_towers_last_blocks_have_the_same_gradients_on_any_number_of_threads() -> None:
    torch.manual_seed(0)
    projector, features = BundledVision(width=32).projector.requires_grad_(True), torch.randn(4 * 9, 16 * 112)
    tower, projector.layers = projector.get_submodule("tower"), torch.nn.Identity()

    def gradients(n: int) -> list[torch.Tensor]:
        torch.set_num_threads(n)
        tower.zero_grad()
        seen = projector(features)
        (seen * torch.linspace(-1, 1, seen.numel()).view_as(seen)).sum().backward()
        return [weight.grad.clone() for weight in tower.parameters() if weight.grad is not None]

    alone, shared = gradients(1), gradients(2)
    assert len(alone) == len(list(tower.parameters()))
    assert all(torch.equal(*pair) for pair in zip(alone, shared, strict=True))


def test_the_projectors_norm_has_the_same_gradients_on_any_number_of_threads() -> None:
    torch.manual_seed(0)
    norm, features = SteadyLayerNorm(1280), torch.randn(72, 1280)

    def gradients(n: int) -> list[torch.Tensor]:
        torch.set_num_threads(n)
        norm.zero_grad()
        (norm(features) * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        return [parameter.grad.clone() for parameter in norm.parameters() if parameter.grad is not None]

    assert all(torch.equal(*pair) for pair in zip(gradients(1), gradients(2), strict=True))
    assert torch.allclose(norm(features), torch.nn.functional.layer_norm(features, (1280,)), atol=1e-6)
