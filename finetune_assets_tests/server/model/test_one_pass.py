"""A beginning and what follows it in one pass, against a pass for each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune_assets.server.devices import Precision
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.model.one_pass import OnePass
from finetune_assets_tests.server.networks import computing_in, text_base

ROWS = [[1, 5, 6, 7, 20, 21], [1, 5, 6, 7, 30, 31], [1, 5, 6, 7, 40, 41]]


def adapted(
    folder: Path, *, dropout: float = 0.0, precision: Precision = "float32"
) -> tuple[Network, list[torch.nn.Parameter]]:
    """A network whose LoRA layers add something."""
    with computing_in(precision):
        network = load(text_base(folder))
    moved = adapters.add_trainable(network, None, with_images=False, dropout=dropout)["lora"]
    draw = torch.Generator().manual_seed(1)
    for parameter in moved:
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw)
    return network, moved


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_states_and_gradients_are_those_of_a_pass_for_each(
    tmp_path: Path, precision: Precision, tolerance: float
) -> None:
    network, moved = adapted(tmp_path, precision=precision)
    found = []
    for one_pass in (None, OnePass.of(network)):
        network.one_pass = one_pass
        embedded = network.embed(ROWS, [[] for _ in ROWS]).detach().requires_grad_()
        states = network.states(embedded, 4)
        states.square().sum().backward()
        gradients = [tensor.grad for tensor in (embedded, *moved) if tensor.grad is not None]
        assert len(gradients) == 1 + len(moved)
        found.append([states, *gradients])
        for parameter in moved:
            parameter.grad = None
    assert network.one_pass is not None
    for apart, together in zip(*found, strict=True):
        assert together.dtype == apart.dtype
        assert (together - apart).norm() <= tolerance * apart.norm()


def test_rows_that_begin_differently_pass_as_before(tmp_path: Path) -> None:
    network, _ = adapted(tmp_path)
    embedded = network.embed(ROWS, [[] for _ in ROWS])
    before = network.states(embedded, 0)
    network.one_pass = OnePass.of(network)
    assert torch.equal(network.states(embedded, 0), before)


def test_a_model_whose_layers_look_back_only_so_far_is_left_as_it_is(tmp_path: Path) -> None:
    network, _ = adapted(tmp_path)
    network.decoder.config.sliding_window = 8
    assert OnePass.of(network) is None


def test_what_dropout_leaves_out_is_left_to_passes_of_their_own(tmp_path: Path) -> None:
    assert OnePass.of(adapted(tmp_path, dropout=0.1)[0]) is None
