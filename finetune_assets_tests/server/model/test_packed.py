"""Rows behind one another against padded rows, and layers that run again against those that keep what they made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune_assets.server.devices import Precision
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.packed import Packed
from finetune_assets.server.training import objectives
from finetune_assets.server.training.examples import Example
from finetune_assets.server.training.objectives import Supervised
from finetune_assets_tests.server.model.test_one_pass import adapted

TOLERANCES: list[tuple[Precision, float]] = [("float32", 1e-4), ("bfloat16", 3e-2)]


def example(*ids: int, learned: int) -> Example:
    """One whose last `learned` tokens are learned."""
    return Example(torch.tensor(ids, dtype=torch.int32), torch.arange(len(ids)) >= len(ids) - learned, [])


BATCH = [
    example(1, 5, 6, 7, 20, learned=1),
    example(9, 8, 7, 30, 31, 32, 33, 34, 35, learned=3),
    example(1, 5, 6, 40, 41, 42, learned=2),
]


def gradients(network: Network, moved: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """The batch's loss, and its gradients."""
    loss, _ = Supervised(network).losses(BATCH)
    loss.backward()
    found = [parameter.grad for parameter in moved if parameter.grad is not None]
    for parameter in moved:
        parameter.grad = None
    return [loss.detach(), *found]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    assert len(found) == len(expected) > 2
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize(("precision", "tolerance"), TOLERANCES)
def test_packed_rows_have_the_loss_and_gradients_of_padded_ones(
    tmp_path: Path, precision: Precision, tolerance: float
) -> None:
    network, moved = adapted(tmp_path, precision=precision)
    padded = gradients(network, moved)
    passed: list[torch.Size] = []
    network.decoder.register_forward_pre_hook(
        lambda _decoder, _given, named: passed.append(named["inputs_embeds"].shape), with_kwargs=True
    )
    network.packed = Packed.of(network)
    assert_close(gradients(network, moved), padded, tolerance)
    assert [shape[:2] for shape in passed] == [(1, sum(map(len, BATCH)))]  # no padding


@pytest.mark.parametrize(
    ("lengths", "shared", "pays"), [([5, 9, 6], 0, True), ([20, 21], 18, False), ([9, 9], 0, True)]
)
def test_rows_that_begin_alike_are_packed_only_if_they_have_no_more_tokens_so(
    tmp_path: Path, lengths: list[int], shared: int, pays: bool
) -> None:
    packed = Packed.of(adapted(tmp_path)[0])
    assert packed is not None
    assert packed.pays(lengths, shared) == pays


def test_a_packed_row_sees_no_other(tmp_path: Path) -> None:
    network, _ = adapted(tmp_path)
    packed = Packed.of(network)
    assert packed is not None
    first, second, other = (torch.tensor(ids) for ids in ([1, 5, 6], [9, 8, 7, 30], [2, 3, 4]))
    states = [packed.states(network.embedding(torch.cat([row, second])), [3, 4])[3:] for row in (first, other)]
    assert torch.equal(*states)


def test_a_model_whose_layers_look_back_only_so_far_is_not_packed(tmp_path: Path) -> None:
    network, _ = adapted(tmp_path)
    network.decoder.config.sliding_window = 8
    assert Packed.of(network) is None


@pytest.mark.parametrize(("precision", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("packed", [False, True])
def test_layers_that_run_again_have_the_loss_and_gradients_of_those_that_keep(
    tmp_path: Path, precision: Precision, tolerance: float, packed: bool
) -> None:
    network, moved = adapted(tmp_path, precision=precision)
    kept = gradients(network, moved)
    runs = 0

    def count(*_given: object) -> None:
        nonlocal runs
        runs += 1

    network.decoder.layers[0].mlp.register_forward_pre_hook(count)
    network.packed = Packed.of(network) if packed else None
    network.recompute()
    assert_close(gradients(network, moved), kept, tolerance)
    assert runs == 2  # forward, and again in the backward pass


@pytest.mark.parametrize("packed", [False, True])
def test_dropout_leaves_out_the_same_when_a_layer_runs_again(tmp_path: Path, packed: bool) -> None:
    found = []
    for folder, again in (("kept", False), ("again", True)):
        network, moved = adapted(tmp_path / folder, dropout=0.5)
        network.packed = Packed.of(network) if packed else None
        if again:
            network.recompute()
        for module in network.decoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.train()
        torch.manual_seed(0)
        found.append(gradients(network, moved))
    assert_close(found[1], found[0], 1e-5)


def test_a_loss_in_pieces_is_that_of_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, moved = adapted(tmp_path)
    at_once = gradients(network, moved)
    monkeypatch.setattr(objectives, "LOGITS_AT_ONCE", 2 * network.vocabulary)  # two tokens
    assert_close(gradients(network, moved), at_once, 1e-5)
