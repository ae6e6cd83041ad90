"""Compiled layers learn what layers as they are do, and where they cannot be compiled training goes on as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model.network import load
from finetune_assets.server.model.packed import Packed
from finetune_assets.server.training import trial
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.preparing import prepare
from finetune_assets.server.training.room import Plan, Room
from finetune_assets.server.training.watcher import Progress
from finetune_assets_tests.long_tests import LONG
from finetune_assets_tests.server.networks import text_base
from finetune_assets_tests.server.training.test_loop import training_request
from finetune_assets_tests.server.watchers import Recorder

BUILT = pytest.mark.skipif(
    not LONG or shutil.which("g++") is None,
    reason="FINETUNE_ASSETS_LONG_TESTS=1, and a C++ compiler",
)
COMPILED = "Layers run compiled"
pytestmark = pytest.mark.usefixtures("in_float32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Layers are compiled for the shortest job, on this CPU."""
    monkeypatch.setattr(trial, "compiles", lambda _run: True)
    monkeypatch.setattr(trial, "_WORTH_COMPILING", 0.0)
    torch._dynamo.reset()
    yield
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)


def losses(steps: list[Progress]) -> list[float]:
    return [loss for step in steps for loss in (step.train_loss, step.full_valid_loss) if loss is not None]


@BUILT
@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_compiled_layers_have_the_losses_of_layers_as_they_are(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch, recompute: bool, packed: bool
) -> None:
    way = Plan(1024, recompute=recompute)
    monkeypatch.setattr("finetune_assets.server.training.preparing.room_for", lambda *_asked: way)
    if packed:
        monkeypatch.setattr(trial, "take_savings", trial.take_packed)
        monkeypatch.setattr(Packed, "pays", lambda *_asked: True)
    found = []
    for name in ("compiled", "as they are"):
        if name != "compiled":
            monkeypatch.setattr(trial, "compiles", lambda _run: False)
        (tmp_path / name).mkdir()
        recorder = Recorder()
        train(training_request(tmp_path / name, base), recorder)
        assert (COMPILED in recorder.notes) == (name == "compiled")
        found.append(losses(recorder.steps))
    assert len(found[0]) == 8
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@BUILT
@pytest.mark.usefixtures("as_on_a_gpu")
def test_layers_in_4_bit_are_compiled_too(tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    recorder, plain = Recorder(), Recorder()
    (tmp_path / "compiled").mkdir()
    train(training_request(tmp_path / "compiled", replace(base, four_bit=True)), recorder)
    monkeypatch.setattr(trial, "compiles", lambda _run: False)
    train(training_request(tmp_path, replace(base, four_bit=True)), plain)
    assert COMPILED in recorder.notes
    assert losses(recorder.steps) == pytest.approx(losses(plain.steps), rel=1e-4)


@BUILT
@pytest.mark.usefixtures("as_on_a_gpu")
def test_without_a_compiler_training_goes_on_with_layers_as_they_are_and_says_so(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, str(tmp_path / "no-compiler")))
    monkeypatch.setattr(config, "force_disable_caches", True)
    recorder, plain = Recorder(), Recorder()
    (tmp_path / "failed").mkdir()
    train(training_request(tmp_path / "failed", base), recorder)
    [said] = [note for note in recorder.notes if "compiled" in note]
    assert said.startswith("warn: Layers run as they are, as they could not be compiled, which is slower: ")
    monkeypatch.setattr(trial, "compiles", lambda _run: False)
    train(training_request(tmp_path, base), plain)
    assert losses(recorder.steps) == losses(plain.steps)


def test_what_is_too_short_to_gain_is_not_compiled(tmp_path: Path, base: BaseModel) -> None:
    run, recorder = prepare(training_request(tmp_path, base), load(base), Room.here(), Recorder()), Recorder()
    trial.take_compiled(run, run.total_steps, recorder.note)
    assert not run.network.compiled
    assert recorder.notes == []
    assert not trial.compiles(run)  # and on a CPU never
