"""A frozen vision tower sees each image of a job once, and the weights are those of a training that looks each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_assets.errors import TrainingFileError
from finetune_assets.server.model.network import load
from finetune_assets.server.model.own_forward import logits_at
from finetune_assets.server.model.proof import pictured
from finetune_assets.server.training import preparing, seen
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.seen import SeenImages
from finetune_assets_tests.long_tests import LONG
from finetune_assets_tests.server.families import IMAGES, image_model
from finetune_assets_tests.server.networks import hub_vision_base, picture
from finetune_assets_tests.server.test_families import REFUSED
from finetune_assets_tests.server.training.test_loop import training_request, write_examples
from finetune_assets_tests.server.training.test_state import assert_equal, weights
from finetune_assets_tests.server.watchers import Recorder

COLOURS = ("red", "blue", "green")
_UNKEPT = {"Llama 3.2 Vision"}
"""Whose forward asks its tower itself."""


class Looks:
    """Counts how often networks that are trained meanwhile really look at pictures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = 0

        def counting(kept: SeenImages, network: Any, folder: Path, *more: Any, own: Any = SeenImages.__init__) -> None:
            own(kept, network, folder, *more)
            if kept._see is not None:
                kept._see = self._counted(kept._see)

        monkeypatch.setattr(SeenImages, "__init__", counting)

    def _counted(self, see: Any) -> Any:
        def look(*args: Any, **kwargs: Any) -> Any:
            self.n += 1
            return see(*args, **kwargs)

        return look


def asked(folder: Path, base: Any, **changes: Any) -> Any:
    folder.mkdir(exist_ok=True)
    examples = [("Which colour?", colour, picture(colour)) for colour in COLOURS] * 2
    file = write_examples(folder / "pictures.jsonl", examples)
    usual = {"training_file": file, "validation_file": None, "n_epochs": 3, "batch_size": 2}
    return training_request(folder, base, **usual | changes)


@pytest.mark.parametrize("name", [name for name in IMAGES if name not in REFUSED and (LONG or name == "Qwen3-VL")])
def test_each_image_passes_the_tower_once_and_the_weights_are_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = image_model(name, tmp_path)
    with monkeypatch.context() as without:
        without.setattr(preparing, "keep_seen", lambda *_: None)
        looking = weights(train(asked(tmp_path / "looking", base), Recorder()))
    looks = Looks(monkeypatch)
    assert_equal(weights(train(asked(tmp_path / "kept", base), Recorder())), looking)
    assert looks.n == (0 if name in _UNKEPT else len(COLOURS))


def test_a_job_that_goes_on_takes_what_was_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = hub_vision_base(tmp_path)
    whole = weights(train(asked(tmp_path / "whole", base), Recorder()))
    request = asked(tmp_path / "job", base)
    assert train(request, Recorder(stop_after=4)) is None
    looks = Looks(monkeypatch)
    assert_equal(weights(train(request, Recorder())), whole)
    assert looks.n == 1, "one look tells how this version of the model answers"


def test_what_the_disk_has_lost_is_seen_again(tmp_path: Path) -> None:
    base = hub_vision_base(tmp_path)
    whole = weights(train(asked(tmp_path / "whole", base), Recorder()))
    request = asked(tmp_path / "job", base)
    assert train(request, Recorder(stop_after=4)) is None
    for kept in (request.state / "features").glob("seen-*"):
        kept.write_bytes(kept.read_bytes()[:40])
    assert_equal(weights(train(request, Recorder())), whole)


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path) -> None:
    network = load(hub_vision_base(tmp_path))
    shown = pictured(network)
    SeenImages(network, tmp_path / "kept", at_most=100)
    for _ in range(2):
        logits_at(network.model, torch.tensor(shown.ids), shown.extras, torch.tensor([0]))
    assert not list((tmp_path / "kept").iterdir())


def test_a_model_that_wants_more_of_its_tower_than_is_kept_looks_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = hub_vision_base(tmp_path)
    looking = weights(train(asked(tmp_path / "looking", base), Recorder()))
    monkeypatch.setattr(seen, "_apart", lambda given: {"last_hidden_state": given.last_hidden_state})
    looks = Looks(monkeypatch)
    assert_equal(weights(train(asked(tmp_path / "kept", base), Recorder())), looking)
    assert looks.n > 0


def test_a_tower_that_learns_looks_each_time_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    base = hub_vision_base(tmp_path)
    learned = weights(train(asked(tmp_path / "job", base, train_vision_tower=True, n_epochs=1), Recorder()))
    moved = {name for name, value in learned.items() if "vision_tower" in name and "lora_B" in name and value.any()}
    assert moved, "LoRA layers begin without effect"
    assert looks.n == 0, "nothing stands in the tower's way"


def test_a_tower_is_not_trained_without_an_image(tmp_path: Path) -> None:
    request = training_request(tmp_path, hub_vision_base(tmp_path), train_vision_tower=True)
    with pytest.raises(TrainingFileError, match="train_vision_tower is set, and no example shows an image"):
        train(request, Recorder())
