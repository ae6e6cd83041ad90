"""The self-test at load: a model that would be shown images otherwise than its makers meant is found out."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_assets.errors import UnfitModelError
from finetune_assets.server.model import proof
from finetune_assets.server.model.network import load
from finetune_assets_tests.server.networks import hub_vision_base

pytestmark = pytest.mark.usefixtures("in_float32")


def test_a_model_that_sees_passes_until_what_it_learns_is_not_what_it_is_asked(tmp_path: Path) -> None:
    network = load(hub_vision_base(tmp_path))
    assert proof.misreads(network) is None
    own = network.model.forward

    @functools.wraps(own)
    def blind_in_training(*given: Any, pixel_values: Any = None, **named: Any) -> Any:
        shown = {} if named.get("use_cache") is False else {"pixel_values": pixel_values}
        return own(*given, **shown, **named)

    network.model.forward = blind_in_training
    assert proof.misreads(network) == (
        "with 1 image, an answer that is learned has other logits than one that is asked for"
    )


def test_a_processor_that_does_not_fit_the_weights_refuses_the_model(tmp_path: Path) -> None:
    base = hub_vision_base(tmp_path)
    settings = Path(base.path) / "processor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"patch_size": 10}))
    with pytest.raises(UnfitModelError, match="'tiny-llava' cannot be used here: with 1 image, it does not run"):
        load(base)


def test_a_lack_of_memory_says_nothing_about_the_model(tmp_path: Path) -> None:
    network = load(hub_vision_base(tmp_path))

    @functools.wraps(network.model.forward)
    def full(*_given: Any, **_named: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    network.model.forward = full
    for examine in (proof.fails, proof.misreads):
        with pytest.raises(torch.OutOfMemoryError):
            examine(network)
