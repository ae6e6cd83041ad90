from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.chat_encoding import ImageFeatures, encode_example
from finetune_assets.server.network import load
from finetune_assets.server.training import (
    Progress,
    TrainingRequest,
    TrainingResult,
    _learned_logits,
    resolve_hyperparameters,
    train,
)
from finetune_assets_tests.server.networks import chat, text_base


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
        "n_epochs": 2,
        "batch_size": 5,
        "learning_rate_multiplier": 10.0,
        "seed": 3,
    }
    return TrainingRequest(**usual | changes)


def run(request: TrainingRequest) -> tuple[TrainingResult, list[Progress]]:
    said: list[Progress] = []
    return train(request, said.append), said


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


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


def test_the_loss_is_transformers_own_over_the_answer_alone(base: BaseModel) -> None:
    network = load(base)
    examples = [
        encode_example(network, chat(question, answer), ImageFeatures(network))
        for question, answer in [("a?", "Yes"), ("a?", "No way"), ("a longer one?", "Yes")]
    ]
    logits, targets = _learned_logits(network, examples)
    ours = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    theirs = 0.0
    for example in examples:
        ids = torch.tensor([example.ids])
        labels = torch.where(torch.tensor([example.learned]), ids, -100)
        theirs += network.model(input_ids=ids, labels=labels).loss.item() * sum(example.learned)
    assert ours.item() == pytest.approx(theirs, rel=1e-4)


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


@given(n=st.integers(10, 50_000))
def test_auto_hyperparameters_stay_within_openais_bounds(n: int) -> None:
    request = TrainingRequest(
        base=BaseModel("m", "m", vision=False), adapter=None, training_file=Path(), validation_file=None, output=Path(),
        n_epochs="auto", batch_size="auto", learning_rate_multiplier="auto", seed=0,
    )  # fmt: skip
    settings = resolve_hyperparameters(request, n)
    assert 1 <= settings["n_epochs"] <= 50
    assert 1 <= settings["batch_size"] <= 256
    assert settings["learning_rate_multiplier"] > 0


def test_little_data_is_seen_more_often() -> None:
    request = TrainingRequest(
        base=BaseModel("m", "m", vision=False), adapter=None, training_file=Path(), validation_file=None, output=Path(),
        n_epochs="auto", batch_size="auto", learning_rate_multiplier="auto", seed=0,
    )  # fmt: skip
    # 10 examples in batches of 1: 60 steps are 6 epochs. 270 in batches of 8 are 34 steps an epoch: the usual 3.
    assert resolve_hyperparameters(request, 10) == {"n_epochs": 6, "batch_size": 1, "learning_rate_multiplier": 1.0}
    assert resolve_hyperparameters(request, 270) == {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}
