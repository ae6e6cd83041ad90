"""A training that is interrupted goes on as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.training import loop as training
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.watcher import TrainingResult
from finetune_assets_tests.server.networks import bundled_vision_base, picture, text_base
from finetune_assets_tests.server.training.test_loop import training_request, write_examples
from finetune_assets_tests.server.watchers import Recorder

pytestmark = pytest.mark.precision


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def saving_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)


def weights(result: TrainingResult | None) -> dict[str, torch.Tensor]:
    assert result is not None
    files = sorted(result.model_dir.glob("*.safetensors"))
    return {f"{file.name} {name}": value for file in files for name, value in load_file(file).items()}


def in_one_go(folder: Path, base: BaseModel, **changes: object) -> dict[str, torch.Tensor]:
    folder.mkdir()
    return weights(train(training_request(folder, base, **changes), Recorder()))


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("stop_after", [1, 3, 5, 6])
def test_a_stopped_training_gives_the_same_weights_bit_by_bit(tmp_path: Path, base: BaseModel, stop_after: int) -> None:
    request = training_request(tmp_path, base)
    assert train(request, Recorder(stop_after=stop_after)) is None
    again = Recorder()
    result = train(request, again)
    assert again.first_step == stop_after + 1
    assert_equal(weights(result), in_one_go(tmp_path / "whole", base))


def test_a_killed_training_repeats_only_what_was_not_saved(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 3600.0)
    request = training_request(tmp_path, base)
    with pytest.raises(KeyboardInterrupt):
        train(request, Recorder(die_after=5))
    again = Recorder()
    result = train(request, again)
    assert again.first_step == 4  # an epoch has three steps
    assert again.notes[-1] == "Training goes on after step 3 of 6"
    assert_equal(weights(result), in_one_go(tmp_path / "whole", base))


def test_trained_tokens_are_exact_after_an_interruption(tmp_path: Path, base: BaseModel) -> None:
    request = training_request(tmp_path, base)
    train(request, Recorder(stop_after=4))
    result = train(request, Recorder())
    (tmp_path / "whole").mkdir()
    expected = train(training_request(tmp_path / "whole", base), Recorder())
    assert result is not None
    assert expected is not None
    assert result.trained_tokens == expected.trained_tokens


def test_a_paused_training_leaves_a_usable_snapshot(tmp_path: Path, base: BaseModel) -> None:
    recorder = Recorder(stop_after=2, snapshot=True)
    assert train(training_request(tmp_path, base), recorder) is None
    assert recorder.snapshot == (checkpoint := tmp_path / "out/checkpoint-2")
    assert (checkpoint / "adapter_model.safetensors").exists()


def test_images_and_projector_come_back_too_and_are_not_looked_at_again(tmp_path: Path) -> None:
    base = bundled_vision_base(tmp_path)
    colours = [("Colour?", colour, picture(colour)) for colour in ("red", "blue")] * 3
    mixed = write_examples(tmp_path / "mixed.jsonl", [*colours, ("None?", "No"), ("Nothing?", "No")])
    changes = {"training_file": mixed, "validation_file": None, "batch_size": 2, "n_epochs": 1}
    request = training_request(tmp_path, base, **changes)
    train(request, Recorder(stop_after=2))
    features = tmp_path / "state/features/features.bin"
    made = features.stat().st_mtime_ns
    assert_equal(weights(train(request, Recorder())), in_one_go(tmp_path / "whole", base, **changes))
    assert features.stat().st_mtime_ns == made


def test_the_state_of_other_work_is_not_used(tmp_path: Path, base: BaseModel) -> None:
    train(training_request(tmp_path, base), Recorder(stop_after=2))
    other = Recorder()
    train(training_request(tmp_path, base, seed=4), other)
    assert other.first_step == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "no counters"])
def test_a_damaged_state_is_told_and_training_starts_again(tmp_path: Path, base: BaseModel, damage: str) -> None:
    request = training_request(tmp_path, base)
    train(request, Recorder(stop_after=2))
    tensors = tmp_path / "state/step-2/tensors.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    {
        "flipped": lambda: tensors.write_bytes(data),
        "cut": lambda: tensors.write_bytes(data[:100]),
        "empty": lambda: tensors.write_bytes(b""),
        "no counters": lambda: (tmp_path / "state/step-2/state.json").write_text("{}"),
    }[damage]()
    again = Recorder()
    assert_equal(weights(train(request, again)), in_one_go(tmp_path / "whole", base))
    assert again.first_step == 1
    assert again.notes[-1].startswith("warn: The saved training state cannot be used, so training starts again")


def test_a_half_written_state_is_never_seen(tmp_path: Path, base: BaseModel) -> None:
    request = training_request(tmp_path, base)
    train(request, Recorder(stop_after=2))
    scratch = tmp_path / "state/saving"
    scratch.mkdir()
    (scratch / "state.json").write_text(json.dumps({"step": 5}))
    again = Recorder()
    train(request, again)
    assert again.first_step == 3


def test_states_take_the_place_of_each_other(tmp_path: Path, base: BaseModel) -> None:
    train(training_request(tmp_path, base), Recorder())
    assert [path.name for path in (tmp_path / "state").glob("s*")] == ["step-6"]


def contradicting(folder: Path) -> dict[str, object]:
    """Held-out examples that are the worse, the more is learned from the others."""
    folder.mkdir(exist_ok=True)
    examples = [(f"Is {i} fine?", "No" if i % 2 else "Yes") for i in range(12)]
    held_out = write_examples(folder / "held-out.jsonl", examples)
    return {"validation_file": held_out, "n_epochs": 9, "early_stopping_patience": 2, "lora_dropout": 0.2}


def test_training_ends_where_the_held_out_loss_rises_with_the_weights_of_the_best_epoch(
    tmp_path: Path, base: BaseModel
) -> None:
    recorder = Recorder()
    result = train(training_request(tmp_path, base, **contradicting(tmp_path)), recorder)
    losses = {p.step: p.full_valid_loss for p in recorder.steps if p.full_valid_loss is not None}
    best = min(losses, key=losses.__getitem__)
    assert list(losses)[-1] == best + 2 * 3  # an epoch has three steps
    assert list(losses)[-1] < recorder.steps[-1].total_steps == 27
    assert f"that of step {best} of 27" in recorder.notes[-1]
    kept = load_file(tmp_path / f"out/checkpoint-{best}/adapter_model.safetensors")
    assert_equal(weights(result), {f"adapter_model.safetensors {name}": value for name, value in kept.items()})


@pytest.mark.parametrize("stop_after", [4, 9])
def test_dropout_and_early_stopping_are_the_same_bit_by_bit_after_a_stop(
    tmp_path: Path, base: BaseModel, stop_after: int
) -> None:
    request = training_request(tmp_path, base, **contradicting(tmp_path))
    train(request, Recorder(stop_after=stop_after))
    assert_equal(weights(train(request, Recorder())), in_one_go(tmp_path / "whole", base, **contradicting(tmp_path)))


def test_dropout_changes_what_is_learned(tmp_path: Path, base: BaseModel) -> None:
    with_dropout = in_one_go(tmp_path / "with", base, lora_dropout=0.2, n_epochs=1)
    without = in_one_go(tmp_path / "without", base, n_epochs=1)
    assert any(not torch.equal(with_dropout[name], without[name]) for name in without)


def test_a_fine_tuned_model_is_trained_on_without_the_dropout_of_its_first_training(
    tmp_path: Path, base: BaseModel
) -> None:
    (tmp_path / "first").mkdir()
    first = train(training_request(tmp_path / "first", base, lora_dropout=0.5, n_epochs=1), Recorder())
    assert first is not None
    folder = tmp_path / "second"
    folder.mkdir()
    second = train(training_request(folder, base, adapter=first.model_dir, n_epochs=1), Recorder())
    assert second is not None
    config = json.loads((second.model_dir / "adapter_config.json").read_text())
    assert config["lora_dropout"] == 0
