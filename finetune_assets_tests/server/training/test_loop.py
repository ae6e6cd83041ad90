from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from finetune_assets.errors import TrainingFileError, UnfitModelError
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.devices import Precision
from finetune_assets.server.model.chat_encoding import ImageFeatures
from finetune_assets.server.model.network import load
from finetune_assets.server.training import room
from finetune_assets.server.training.examples import packed, truncate
from finetune_assets.server.training.loop import TrainingError, train
from finetune_assets.server.training.objectives import cross_entropies
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.watcher import Progress, TrainingResult
from finetune_assets_tests.server.families import text_model
from finetune_assets_tests.server.networks import (
    bundled_vision_base,
    chat,
    computing_in,
    encode_example,
    picture,
    text_base,
)
from finetune_assets_tests.server.watchers import Recorder

pytestmark = pytest.mark.precision


def write_examples(path: Path, examples: Sequence[tuple[Any, ...]]) -> Path:
    """A training file of (question, answer) or (question, answer, image)."""
    path.write_bytes(b"\n".join(orjson.dumps({"messages": chat(*example)}) for example in examples))
    return path


def training_request(folder: Path, base: BaseModel, **changes: Any) -> TrainingRequest:
    examples = [(f"Is {i} fine?", "Yes" if i % 2 else "No") for i in range(12)]
    usual: dict[str, Any] = {
        "base": base,
        "adapter": None,
        "training_file": write_examples(folder / "train.jsonl", examples),
        "validation_file": write_examples(folder / "validation.jsonl", examples[:3]),
        "output": folder / "out",
        "state": folder / "state",
        "n_epochs": 2,
        "batch_size": 5,
        "learning_rate_multiplier": 10.0,
        "seed": 3,
    }
    return TrainingRequest(**usual | changes)


def run(request: TrainingRequest) -> tuple[TrainingResult, list[Progress]]:
    recorder = Recorder()
    result = train(request, recorder)
    assert result is not None
    return result, recorder.steps


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


def test_a_model_that_cannot_be_trained_fails_its_job_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UnfitModelError, match="'Mamba 2' cannot be used here: it cannot be fine-tuned"):
        train(training_request(tmp_path, text_model("Mamba 2", tmp_path)), Recorder())


def test_every_step_is_reported_and_epochs_end_with_validation_and_a_checkpoint(
    tmp_path: Path, base: BaseModel
) -> None:
    result, said = run(training_request(tmp_path, base))
    assert [(p.step, p.epoch) for p in said] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert all(p.total_steps == result.steps == 6 for p in said)
    assert [p.step for p in said if p.full_valid_loss is not None] == [3, 6]
    assert [p.checkpoint for p in said if p.checkpoint] == [
        tmp_path / "out/checkpoint-3",
        tmp_path / "out/checkpoint-6",
    ]
    assert said[-1].train_loss < said[0].train_loss


def test_trained_tokens_are_all_tokens_of_all_epochs(tmp_path: Path, base: BaseModel) -> None:
    request = training_request(tmp_path, base)
    network = load(base)
    lines = [orjson.loads(line) for line in request.training_file.read_bytes().splitlines()]
    lengths = [len(encode_example(network, line["messages"], ImageFeatures(network)).ids) for line in lines]
    result, said = run(request)
    assert result.trained_tokens == said[-1].trained_tokens == 2 * sum(lengths)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, base: BaseModel) -> None:
    def losses(folder: str, seed: int) -> list[float]:
        (tmp_path / folder).mkdir()
        return [p.train_loss for p in run(training_request(tmp_path / folder, base, seed=seed))[1]]

    assert losses("a", 3) == losses("b", 3)
    assert losses("c", 4) != losses("d", 3)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("trimmed", [False, True])
def test_the_loss_is_transformers_own_over_the_answer_alone(base: BaseModel, trimmed: bool) -> None:
    network = load(base)
    network.trimmed = trimmed
    examples = [
        truncate(encode_example(network, chat(question, answer), ImageFeatures(network)), 512)
        for question, answer in [("a?", "Yes"), ("a?", "No way"), ("a longer one?", "Yes")]
    ]
    ours, _right, _rows = cross_entropies(network, examples, "sum")
    theirs = 0.0
    for example in examples:
        ids = example.ids.long()[None]
        labels = torch.where(example.learned[None], ids, -100)
        theirs += network.model(input_ids=ids, labels=labels).loss.item() * int(example.learned.sum())
    assert ours.item() == pytest.approx(theirs, rel=1e-4)


def test_packed_examples_learn_together_and_see_nothing_of_each_other(tmp_path: Path, base: BaseModel) -> None:
    made = {}
    for name, how in {"packed": {"packing": True, "batch_size": 1}, "all at once": {"batch_size": 12}}.items():
        folder = tmp_path / name
        folder.mkdir()
        result, said = run(training_request(folder, base, **how))
        assert result.steps == len(said) == 2
        made[name] = load_file(result.model_dir / "adapter_model.safetensors")
    assert all(torch.allclose(made["packed"][key], value, atol=1e-3) for key, value in made["all at once"].items())


def test_packs_fill_the_context_and_hold_every_example_once(tmp_path: Path, base: BaseModel) -> None:
    packed_run, said = run(training_request(tmp_path, base, packing=True, batch_size=1, context_length=64))
    assert 32 < said[0].trained_tokens <= 64
    (tmp_path / "alone").mkdir()
    assert packed_run.trained_tokens == run(training_request(tmp_path / "alone", base))[0].trained_tokens


@given(st.lists(st.integers(1, 30), max_size=30))
def test_no_pack_is_fuller_than_allowed_and_no_two_would_fit_into_one(lengths: list[int]) -> None:
    packs = packed(lengths, lambda length: length, 30)
    assert sorted(length for pack in packs for length in pack) == sorted(lengths)
    full = sorted(sum(pack) for pack in packs)
    assert all(sum(pack) <= 30 for pack in packs)
    assert len(full) < 2 or full[0] + full[1] > 30


def test_turns_of_weight_0_do_not_move_the_model(tmp_path: Path, base: BaseModel) -> None:
    def train_on(folder: str, ignored: str) -> float:
        (tmp_path / folder).mkdir()
        messages = [*chat("a?"), {"role": "assistant", "content": ignored, "weight": 0}, *chat("b?", "Yes")]
        file = tmp_path / folder / "weights.jsonl"
        file.write_bytes(b"\n".join([orjson.dumps({"messages": messages})] * 10))
        request = training_request(tmp_path / folder, base, training_file=file, validation_file=None)
        return run(request)[1][0].train_accuracy

    # Ignored turns of different length: were they learned, they would weigh in the accuracy of the first step.
    assert train_on("short", "x") == train_on("long", "x") in (0.0, 0.5, 1.0)


def test_training_goes_on_from_a_fine_tuned_model(tmp_path: Path, base: BaseModel) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first, said_first = run(training_request(tmp_path / "first", base, n_epochs=8))
    _, said_second = run(training_request(tmp_path / "second", base, adapter=first.model_dir, n_epochs=1))
    assert said_second[0].train_loss < said_first[0].train_loss


def test_weights_are_safetensors_in_pefts_format(tmp_path: Path, base: BaseModel) -> None:
    result, _ = run(training_request(tmp_path, base))
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in result.model_dir.iterdir()}
    assert not list(result.model_dir.glob("*.bin"))


def test_an_example_beyond_the_context_is_cut_at_its_end(tmp_path: Path, base: BaseModel) -> None:
    long = [("a?", "Yes " * 600)] + [("b?", "No")] * 9
    request = training_request(tmp_path, base, training_file=write_examples(tmp_path / "long.jsonl", long), n_epochs=1)
    result, _ = run(request)
    short = len(encode_example(load(base), chat("b?", "No"), ImageFeatures(load(base))).ids)
    assert result.trained_tokens == 512 + 9 * short


@pytest.mark.usefixtures("in_float32")
def test_a_batch_too_large_for_one_pass_gives_the_same_step(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(folder: str, tokens_at_once: int) -> list[float]:
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(room, "TOKENS_AT_ONCE", dict.fromkeys(("cpu", "cuda"), (tokens_at_once,)))
        return [p.train_loss for p in run(training_request(tmp_path / folder, base))[1]]

    assert losses("whole", 10_000) == pytest.approx(losses("parts", 40), rel=1e-4)


def test_a_loss_that_is_no_number_is_an_error_that_says_what_to_change(tmp_path: Path, base: BaseModel) -> None:
    with pytest.raises(TrainingError, match="learning rate is too high.*smaller learning_rate_multiplier"):
        run(training_request(tmp_path, base, learning_rate_multiplier=1e30))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_device_and_precision_are_told(tmp_path: Path, base: BaseModel, precision: Precision) -> None:
    recorder = Recorder()
    with computing_in(precision):
        train(training_request(tmp_path, base), recorder)
    assert recorder.notes[0].startswith("Training on ")
    assert recorder.notes[0].endswith(f" in {precision}")


def test_examples_without_a_token_to_learn_are_counted_and_told(tmp_path: Path, base: BaseModel) -> None:
    examples = [("a? " * 600, "Yes")] * 2 + [("b?", "No")] * 9
    recorder = Recorder()
    train(training_request(tmp_path, base, training_file=write_examples(tmp_path / "long.jsonl", examples)), recorder)
    assert any(note.startswith("warn: 2 examples are left out") for note in recorder.notes)


def test_a_file_with_nothing_to_learn_is_an_error(tmp_path: Path, base: BaseModel) -> None:
    file = write_examples(tmp_path / "long.jsonl", [("a? " * 600, "Yes")] * 10)
    with pytest.raises(TrainingFileError, match="no example has a token to learn within the model's context of 512"):
        run(training_request(tmp_path, base, training_file=file))


def test_a_line_that_the_model_cannot_take_is_named(tmp_path: Path, base: BaseModel) -> None:
    file = write_examples(tmp_path / "seen.jsonl", [("a?", "Yes")] * 4 + [("b?", "No", picture("red"))])
    with pytest.raises(TrainingFileError, match="line 5: the model 'tiny-text' takes no images"):
        run(training_request(tmp_path, base, training_file=file))


def test_the_bundled_vision_model_learns_colours_with_its_projector(tmp_path: Path) -> None:
    colours = [("Colour?", colour, picture(colour)) for colour in ("red", "blue", "green")] * 4
    request = training_request(
        tmp_path, bundled_vision_base(tmp_path), training_file=write_examples(tmp_path / "c.jsonl", colours),
        validation_file=None, n_epochs=6,
    )  # fmt: skip
    result, said = run(request)
    assert said[-1].train_loss < said[0].train_loss
    assert (result.model_dir / "projector.safetensors").exists()


def test_rank_alpha_and_context_are_those_that_a_job_asks_for(tmp_path: Path, base: BaseModel) -> None:
    recorder = Recorder()
    examples = [("a?", "Yes " * 60)] * 2 + [("b?", "No")] * 8
    file = write_examples(tmp_path / "long.jsonl", examples)
    asked = {"lora_r": 3, "lora_alpha": 7.0, "context_length": 64, "n_epochs": 1, "validation_file": None}
    result = train(training_request(tmp_path, base, training_file=file, **asked), recorder)
    assert result is not None
    config = orjson.loads((result.model_dir / "adapter_config.json").read_bytes())
    assert (config["r"], config["lora_alpha"]) == (3, 7.0)
    assert "warn: 2 examples are cut at their end, to 64 tokens" in recorder.notes
    assert result.hyperparameters["lora_r"] == 3
