"""A model that could not be fine-tuned, or not be served as it has learned, is known before a job trains it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from finetune_assets.server.model.network import load
from finetune_assets.server.training import rehearsal
from finetune_assets_tests.long_tests import LONG
from finetune_assets_tests.server.families import IMAGES, TEXT, image_model, text_model
from finetune_assets_tests.server.networks import text_base
from finetune_assets_tests.server.test_families import REFUSED


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


@pytest.mark.parametrize("name", [name for name in IMAGES if name not in REFUSED and (LONG or name == "Qwen3-VL")])
@pytest.mark.usefixtures("in_float32")
def test_the_layers_through_which_a_family_sees_learn_and_are_served_as_they_have_learned(
    tmp_path: Path, name: str
) -> None:
    shut = "what it would learn to see changes none of its answers" if name == "Llama 3.2 Vision" else None
    assert rehearsal.fails(load(image_model(name, tmp_path)), sight=True) == shut, "its gates are shut at first"
