"""A model that could not be fine-tuned, or not be served as it has learned, is known before a job trains it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from finetune_assets.server.model.network import load
from finetune_assets.server.training import rehearsal
from finetune_assets_tests.server.families import TEXT, text_model
from finetune_assets_tests.server.networks import text_base


def test_a_model_that_learns_and_is_served_as_it_has_learned_passes(tmp_path: Path) -> None:
    assert rehearsal.fails(load(text_base(tmp_path))) is None


def test_a_model_that_says_the_same_whatever_it_learns_fails(tmp_path: Path) -> None:
    network = load(text_base(tmp_path))
    with torch.no_grad():
        network.head.weight.zero_()
    assert rehearsal.fails(network) == "what it would learn changes none of its answers"


@pytest.mark.parametrize("name", [name for name, family in TEXT.items() if family.unfit])
@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
@pytest.mark.usefixtures("in_float32")
def test_a_family_that_peft_cannot_train_or_loads_otherwise_fails_with_the_reason(tmp_path: Path, name: str) -> None:
    found = rehearsal.fails(load(text_model(name, tmp_path)))
    assert re.match(TEXT[name].unfit, found or "")
