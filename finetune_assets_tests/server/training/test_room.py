"""What is trained how, by the memory that there is; and what is refused, with what would fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.training import room as rooms
from finetune_assets.server.training.footprint import footprint
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.room import ERROR, PROCESS, Plan, Room, TooLargeError, plan
from finetune_assets_tests.server.networks import text_base
from finetune_assets_tests.server.training.test_loop import training_request
from finetune_assets_tests.server.watchers import Recorder

pytestmark = pytest.mark.usefixtures("in_float32")
LONGEST = 2000


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


def room_for(base: BaseModel, tokens: int, *, recompute: bool, device: str = "cpu") -> Room:
    """Just enough for this."""
    size = footprint(base, tokens=tokens, recompute=recompute).total + PROCESS
    n_bytes = int(size * (1 + ERROR)) + 1
    return Room(device, n_bytes, n_bytes)


def test_a_small_model_is_trained_as_ever_without_a_look(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_size", None)
    assert plan(base, LONGEST, None, Room("cpu", 2**34, 2**34)) == Plan(1024)
    assert plan(base, LONGEST, None, Room("cuda", 2**34, 2**34)) == Plan(16_384)


@pytest.mark.parametrize(
    ("passing", "recompute"), [(16_384, False), (8192, False), (4096, False), (4096, True), (LONGEST, True)]
)
def test_a_gpu_takes_as_many_tokens_at_once_as_there_is_room_for(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, passing: int, recompute: bool
) -> None:
    monkeypatch.setattr(rooms, "_needs_no_look", lambda *_asked: False)
    found = plan(base, LONGEST, None, room_for(base, passing, recompute=recompute, device="cuda"))
    assert (found.tokens_at_once, found.recompute) == (passing, recompute)
    assert f"Up to {passing:,} tokens pass at once, in about " in found.told
    assert ("computed twice" in found.told) == recompute


def test_the_advised_context_does_fit(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_needs_no_look", lambda *_asked: False)
    total = room_for(base, 5000, recompute=True).total
    with pytest.raises(TooLargeError, match="set context_length to ([0-9,]+) or less or choose a smaller") as told:
        plan(base, 400_000, None, Room("cpu", total, total))
    [advised] = re.findall("context_length to ([0-9,]+)", str(told.value))
    context = int(advised.replace(",", ""))
    assert 4000 < context <= 5000
    found = plan(base, context, None, Room("cpu", total, total))
    assert found.n_bytes is not None
    assert found.n_bytes * (1 + ERROR) <= total


def test_a_rank_that_is_too_high_is_named(base: BaseModel) -> None:
    total = int(1.2 * (PROCESS + footprint(base, tokens=LONGEST, rank=16, recompute=True).total))
    with pytest.raises(TooLargeError, match="lower lora_r"):
        plan(base, LONGEST, 500_000, Room("cpu", total, total))


def test_4_bit_is_named_where_it_would_fit(tmp_path: Path) -> None:
    base = text_base(tmp_path)
    config = Path(base.path) / "config.json"
    wide = {"hidden_size": 4096, "intermediate_size": 14_336, "num_attention_heads": 32, "num_key_value_heads": 8}
    config.write_text(json.dumps(json.loads(config.read_text()) | wide))
    in_4_bit = footprint(replace(base, four_bit=True), tokens=256, recompute=True)
    in_full = footprint(base, tokens=256, recompute=True)
    assert in_4_bit.base == pytest.approx(in_full.base * 4.13 / 32, rel=0.05)
    total = int((in_4_bit.total + PROCESS) * (1 + ERROR)) + 1
    with pytest.raises(
        TooLargeError, match="set load_in_4bit: true beside it in models.yaml or choose a smaller model"
    ):
        plan(base, 256, None, Room("cpu", total, total))
    assert plan(replace(base, four_bit=True), 256, None, Room("cpu", total, total)).recompute


def test_what_only_others_leave_no_room_for_is_tried_in_the_smallest_way(base: BaseModel) -> None:
    assert plan(base, LONGEST, None, Room("cuda", 2**36, 1)).recompute


def test_a_model_that_cannot_run_without_numbers_is_trained_as_ever(tmp_path: Path) -> None:
    nothing = BaseModel("nothing", str(tmp_path), vision=False)
    assert plan(nothing, LONGEST, None, Room("cpu", 1, 1)) == Plan(1024)


def test_a_mixture_is_looked_at_however_small(tmp_path: Path) -> None:
    config = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 8}
    base, much = BaseModel("mixture", str(tmp_path), vision=False), 2**40
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert rooms._needs_no_look(base, 10, None, much)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_local_experts": 8}))
    assert not rooms._needs_no_look(base, 10, None, much)


def test_layers_of_several_sizes_are_looked_at(tmp_path: Path) -> None:
    config = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": [32, 64], "vocab_size": 100}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not rooms._needs_no_look(BaseModel("layered", str(tmp_path), vision=False), 10, None, 2**40)


def test_a_training_that_computes_activations_twice_says_so_and_has_the_same_losses(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, way in (("kept", Plan(1024)), ("twice", Plan(1024, recompute=True, n_bytes=10**9))):
        (tmp_path / name).mkdir()
        monkeypatch.setattr("finetune_assets.server.training.preparing.room_for", lambda *_asked, way=way: way)
        recorder = Recorder()
        train(training_request(tmp_path / name, base, n_epochs=1), recorder)
        found.append(recorder)
    kept, twice = found
    assert [step.train_loss for step in twice.steps] == pytest.approx([step.train_loss for step in kept.steps], 1e-4)
    [said] = set(twice.notes) - set(kept.notes)
    assert said == (
        "Up to 1,024 tokens pass at once, in about 1.0 GB, with activations computed twice: "
        "there is no room to keep them"
    )


def test_a_training_that_cannot_fit_is_refused_before_its_first_step(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "ram_bytes", lambda: 2**20)
    recorder = Recorder()
    with pytest.raises(TooLargeError, match="cannot be trained on this machine with examples of"):
        train(training_request(tmp_path, base), recorder)
    assert not recorder.steps
