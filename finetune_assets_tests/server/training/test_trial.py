"""What is tried before the first step, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finetune_assets.server.model.one_pass import OnePass
from finetune_assets.server.training import trial
from finetune_assets.server.training.loop import Run, _prepare
from finetune_assets_tests.server.networks import text_base
from finetune_assets_tests.server.training.test_loop import training_request
from finetune_assets_tests.server.watchers import Recorder

pytestmark = pytest.mark.usefixtures("in_float32")


@pytest.fixture
def prepared(tmp_path: Path) -> Run[Any]:
    return _prepare(training_request(tmp_path, text_base(tmp_path)), Recorder())


def test_one_pass_changes_no_bit_where_it_is_taken_and_leaves_the_weights_as_they_were(prepared: Run[Any]) -> None:
    before = [parameter.detach().clone() for parameter in prepared.optimiser.parameters]
    trial.take_one_pass(prepared)
    assert all(map(torch.equal, before, prepared.optimiser.parameters))
    assert all(parameter.grad is None for parameter in prepared.optimiser.parameters)
    taken = trial.sample_gradients(prepared)
    prepared.network.one_pass = None
    assert all(map(torch.equal, taken, trial.sample_gradients(prepared)))


def test_one_pass_is_not_taken_if_a_single_bit_differs(prepared: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    right = OnePass.states

    def almost(self: OnePass, embedded: Tensor, shared: int) -> Tensor:
        return right(self, embedded, shared) * (1 + 2**-23)

    monkeypatch.setattr(OnePass, "states", almost)
    trial.take_one_pass(prepared)
    assert prepared.network.one_pass is None
