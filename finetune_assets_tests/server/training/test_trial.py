"""What is tried before the first step, and that it leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finetune_assets.server.model.network import Network, load
from finetune_assets.server.model.one_pass import OnePass
from finetune_assets.server.model.packed import Packed
from finetune_assets.server.training import trial
from finetune_assets.server.training.examples import Example
from finetune_assets.server.training.preparing import Run, prepare
from finetune_assets.server.training.room import Room
from finetune_assets_tests.server.networks import text_base
from finetune_assets_tests.server.training.test_loop import training_request
from finetune_assets_tests.server.watchers import Recorder

pytestmark = pytest.mark.usefixtures("in_float32")


@pytest.fixture
def prepared(tmp_path: Path) -> Run[Any]:
    request = training_request(tmp_path, text_base(tmp_path))
    return prepare(request, load(request.base), Room.here(), Recorder())


def test_savings_change_no_bit_where_they_are_taken_and_leave_the_weights_as_they_were(prepared: Run[Any]) -> None:
    before = [parameter.detach().clone() for parameter in prepared.optimiser.parameters]
    trial.take_savings(prepared)
    assert prepared.network.one_pass is not None
    assert prepared.network.trimmed
    assert all(map(torch.equal, before, prepared.optimiser.parameters))
    assert all(parameter.grad is None for parameter in prepared.optimiser.parameters)
    taken = trial.sample_gradients(prepared)
    prepared.network.one_pass, prepared.network.trimmed = None, False
    assert all(map(torch.equal, taken, trial.sample_gradients(prepared)))


def test_one_pass_is_not_taken_if_a_single_bit_differs(prepared: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    right = OnePass.states

    def almost(self: OnePass, embedded: Tensor, shared: int) -> Tensor:
        return right(self, embedded, shared) * (1 + 2**-23)

    monkeypatch.setattr(OnePass, "states", almost)
    trial.take_savings(prepared)
    assert prepared.network.one_pass is None
    assert prepared.network.trimmed


def test_nothing_is_left_out_if_a_single_bit_differs(prepared: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    right = Network.embed

    def almost(self: Network, *arguments: Any) -> Tensor:
        return right(self, *arguments) * (1 + 2**-20 if self.trimmed else 1)

    monkeypatch.setattr(Network, "embed", almost)
    trial.take_savings(prepared)
    assert prepared.network.one_pass is not None
    assert not prepared.network.trimmed


def test_what_leaves_out_next_to_nothing_is_not_tried(prepared: Run[Any]) -> None:
    for example in prepared.examples:
        example.learned[-1] = True
    prepared.examples[:] = [joined(prepared.examples * 5)]
    trial.take_savings(prepared)
    assert not prepared.network.trimmed


def joined(examples: list[Example]) -> Example:
    """One long conversation."""
    return Example(torch.cat([e.ids for e in examples]), torch.cat([e.learned for e in examples]), [])


def test_an_image_that_nothing_learned_follows_is_left_out_with_its_slots() -> None:
    images = [torch.ones(2, 4), torch.zeros(3, 4)]
    learned = torch.tensor([False] * 4 + [True] * 2 + [False] * 5)
    example = Example(torch.tensor([5, -1, -1, 6, 7, 8, 9, -1, -1, -1, 10]), learned, images)
    ids, shown = example.trimmed()
    assert ids.tolist() == [5, -1, -1, 6, 7]  # the last learned token is only predicted
    assert [image.tolist() for image in shown] == [images[0].tolist()]


def test_rows_are_packed_where_that_gives_the_gradients_of_padded_ones(prepared: Run[Any]) -> None:
    padded = trial.sample_gradients(prepared)
    trial.take_packed(prepared)
    assert prepared.network.packed is not None
    prepared.network.packed.always = True
    for packed, expected in zip(trial.sample_gradients(prepared), padded, strict=True):
        assert (packed - expected).norm() <= 1e-4 * max(1.0, expected.norm().item())


@pytest.mark.parametrize("fault", [lambda states: states * 1.01, lambda _states: torch.linalg.cholesky(-torch.eye(2))])
def test_rows_are_not_packed_where_that_gives_others_or_does_not_run(
    prepared: Run[Any], monkeypatch: pytest.MonkeyPatch, fault: Callable[[Tensor], Tensor]
) -> None:
    right = Packed.states
    monkeypatch.setattr(Packed, "states", lambda *arguments: fault(right(*arguments)))
    trial.take_packed(prepared)
    assert prepared.network.packed is None
    assert all(parameter.grad is None for parameter in prepared.optimiser.parameters)
