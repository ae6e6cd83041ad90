"""Trainings of one base model in one process: each has what it has alone, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model.precision import device_and_dtype
from finetune_assets.server.training import preparing, trial
from finetune_assets.server.training.cotraining import Joint, Outcome, train_together
from finetune_assets.server.training.loop import TrainingError, train
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.room import Plan
from finetune_assets.server.training.watcher import Progress, TrainingResult
from finetune_assets_tests.server.networks import bundled_vision_base, picture, text_base
from finetune_assets_tests.server.training.test_loop import training_request, write_examples
from finetune_assets_tests.server.watchers import Recorder

pytestmark = pytest.mark.precision

TOLERANCE = 1e-3
"""By how much trained weights may differ, relative to what training has moved them by (Euclidean norms)."""
TOLERANCE_BF16 = 0.1
"""In bfloat16, where rows pass otherwise than alone."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, base: BaseModel) -> list[TrainingResult]:
    """What `jobs` give alone."""
    return alone(jobs(tmp_path_factory.mktemp("alone"), base))


def jobs(folder: Path, base: BaseModel) -> list[TrainingRequest]:
    """Three jobs that have nothing in common but their base model."""
    differences: list[dict[str, Any]] = [
        {"seed": 1, "n_epochs": 3, "batch_size": 5, "learning_rate_multiplier": 10.0},
        {"seed": 2, "n_epochs": 2, "batch_size": 2, "learning_rate_multiplier": 3.0, "lora_r": 4, "weight_decay": 0.1},
        {"seed": 3, "n_epochs": 1, "batch_size": 3, "learning_rate_multiplier": 20.0, "context_length": 40},
    ]
    requests = []
    for number, different in enumerate(differences):
        own = folder / f"{number}"
        own.mkdir(parents=True)
        examples = [
            (f"{number}: is {'very ' * (i % (number + 2))}{i} fine?", "Yes" if i % 2 else "No") for i in range(9)
        ]
        file = write_examples(own / "own.jsonl", examples)
        requests.append(training_request(own, base, training_file=file, **different))
    return requests


def alone(requests: Sequence[TrainingRequest]) -> list[TrainingResult]:
    return [result for request in requests if (result := train(request, Recorder()))]


def together(requests: Sequence[TrainingRequest], watchers: Sequence[Recorder]) -> dict[int, Outcome]:
    return dict(train_together(requests, watchers))


def moved_apart(one: Path, other: Path) -> float:
    """By how much two models differ, relative to what the first has learned: of LoRA layers that is all of B."""
    first, second = load_file(one / "adapter_model.safetensors"), load_file(other / "adapter_model.safetensors")
    names = [name for name in first if ".lora_B." in name]
    vectors = [torch.cat([weights[name].flatten() for name in names]) for weights in (first, second)]
    return float((vectors[0] - vectors[1]).norm() / vectors[0].norm())


def assert_equal(found: Outcome, alone: TrainingResult, *, within: float = TOLERANCE) -> None:
    assert isinstance(found, TrainingResult)
    assert moved_apart(alone.model_dir, found.model_dir) <= within


def test_jobs_that_differ_in_everything_have_the_weights_that_they_have_alone(
    tmp_path: Path, base: BaseModel, apart: list[TrainingResult]
) -> None:
    watchers = [Recorder() for _ in range(3)]
    outcomes = together(jobs(tmp_path, base), watchers)
    assert list(outcomes) == [2, 0, 1]
    for number, result in enumerate(apart):
        found = outcomes[number]
        assert_equal(found, result)
        assert isinstance(found, TrainingResult)
        assert (found.steps, found.trained_tokens, found.hyperparameters) == (
            result.steps, result.trained_tokens, result.hyperparameters,
        )  # fmt: skip
        assert "3 jobs train on one copy of the base model; their steps pass together" in watchers[number].notes


@pytest.mark.parametrize("end", ["cancel", "pause", "no number"])
def test_whatever_becomes_of_one_job_the_others_are_what_they_are_alone(
    tmp_path: Path, base: BaseModel, apart: list[TrainingResult], end: str
) -> None:
    asked = jobs(tmp_path, base)
    watchers = [Recorder(), Recorder(), Recorder()]
    if end == "no number":
        asked[1] = replace(asked[1], learning_rate_multiplier=1e30)
    else:
        watchers[1] = Cancelled() if end == "cancel" else Recorder(stop_after=2, snapshot=True)
    outcomes = together(asked, watchers)
    assert {"cancel": RuntimeError, "pause": type(None), "no number": TrainingError}[end] is type(outcomes[1])
    assert not (tmp_path / "1/out/model").exists()
    assert end != "pause" or watchers[1].snapshot == tmp_path / "1/out/checkpoint-2"
    for number in (0, 2):
        assert_equal(outcomes[number], apart[number])


def test_jobs_killed_together_go_on_together_each_from_its_own_state(
    tmp_path: Path, base: BaseModel, apart: list[TrainingResult]
) -> None:
    asked = jobs(tmp_path, base)
    with pytest.raises(KeyboardInterrupt):  # as from a signal: nobody gets to say or save anything
        together(asked, [Recorder(), Recorder(die_after=4), Recorder()])
    watchers = [Recorder(), Recorder(), Recorder()]
    outcomes = together(asked, watchers)
    assert [watcher.first_step for watcher in watchers] == [5, 1, 4]
    for number, result in enumerate(apart):
        assert_equal(outcomes[number], result)


@pytest.mark.parametrize("way", ["packed", "recomputed"])
def test_jobs_pass_together_as_a_gpu_would_have_them_pass(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "packed":  # rows without padding
        monkeypatch.setattr(trial, "take_savings", trial.take_packed)
    else:  # activations computed twice
        monkeypatch.setattr(preparing, "room_for", lambda *_: Plan(1024, recompute=True))
    watchers = [Recorder(), Recorder(), Recorder()]
    outcomes = together(jobs(tmp_path / "together", base), watchers)
    assert "3 jobs train on one copy of the base model; their steps pass together" in watchers[0].notes
    for number, result in enumerate(alone(jobs(tmp_path / "alone", base))):
        # Attention is a sum in another order where rows lie otherwise, and bfloat16 has 8 bits.
        in_float32 = device_and_dtype()[1] == torch.float32
        assert_equal(outcomes[number], result, within=TOLERANCE if in_float32 or way != "packed" else TOLERANCE_BF16)


class Cancelled(Recorder):
    """Is told after two steps that nobody wants the job any more."""

    def stepped(self, progress: Progress) -> None:
        super().stepped(progress)
        if progress.step == 2:
            raise RuntimeError("cancelled")


def test_projectors_learn_together_too_each_for_its_own_job(tmp_path: Path) -> None:
    base = bundled_vision_base(tmp_path)

    def asked(folder: Path) -> list[TrainingRequest]:
        made = []
        for number, colors in enumerate((("red", "blue"), ("green", "white"))):
            own = folder / f"{number}"
            own.mkdir(parents=True)
            examples = [("Which colour?", color, picture(color)) for color in colors * 3]
            file = write_examples(own / "pictures.jsonl", examples)
            made.append(training_request(own, base, training_file=file, validation_file=None, n_epochs=1, batch_size=3))
        return made

    outcomes = together(asked(tmp_path / "together"), [Recorder(), Recorder()])
    for number, result in enumerate(alone(asked(tmp_path / "alone"))):
        found = outcomes[number]
        assert_equal(found, result)
        assert isinstance(found, TrainingResult)
        first, second = (load_file(r.model_dir / "projector.safetensors") for r in (result, found))
        assert all(torch.allclose(first[name], second[name], rtol=TOLERANCE, atol=1e-6) for name in first)


def test_jobs_of_which_a_pass_together_would_change_one_make_their_steps_in_turn(
    tmp_path: Path, base: BaseModel, apart: list[TrainingResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Joint, "_fits", lambda *_: False)
    watchers = [Recorder(), Recorder(), Recorder()]
    outcomes = together(jobs(tmp_path, base), watchers)
    assert "3 jobs train on one copy of the base model; they make their steps in turn" in watchers[0].notes
    for number, result in enumerate(apart):
        assert_equal(outcomes[number], result, within=0.0)


def test_a_job_whose_file_cannot_be_learned_from_ends_before_the_others_begin(tmp_path: Path, base: BaseModel) -> None:
    asked = jobs(tmp_path, base)
    asked[0] = replace(asked[0], context_length=3)
    outcomes = together(asked, [Recorder(), Recorder(), Recorder()])
    assert list(outcomes) == [0, 2, 1]
    assert "no example has a token to learn" in str(outcomes[0])
    assert isinstance(outcomes[1], TrainingResult)
