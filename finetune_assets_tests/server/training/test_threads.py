"""The same bits on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model.vision import BundledVision, SteadyLayerNorm
from finetune_assets.server.training import threads
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.watcher import Progress, Watcher
from finetune_assets_tests.server.training.test_loop import training_request
from finetune_assets_tests.tiny_models import write_text_model


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_gradients_that_differ_by_a_bit_keep_a_training_to_its_share() -> None:
    def gradients(steadily: bool) -> list[torch.Tensor]:
        return [torch.tensor([1.0 if steadily else 1 + torch.get_num_threads() * 2**-23])]

    assert threads.same_bits(lambda: gradients(True), 1, 2)
    assert not threads.same_bits(lambda: gradients(False), 1, 2)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("width", [32, 160])
def test_a_training_that_may_move_between_numbers_of_threads_gives_the_same_weights(tmp_path: Path, width: int) -> None:
    """Two trainings of a model of this width, each step of the second on another number of threads."""

    class Moving(Watcher):
        may_move = False

        def __init__(self, moves: bool) -> None:
            self._moves = moves

        def ready(self, gradients: Callable[[], list[torch.Tensor]]) -> None:
            Moving.may_move = threads.same_bits(gradients, 1, 2)
            torch.set_num_threads(1)

        def stepped(self, progress: Progress) -> None:
            if self._moves and Moving.may_move:
                torch.set_num_threads(1 + progress.step % 2)

    def weights(name: str, moves: bool) -> bytes:
        (tmp_path / name).mkdir()
        done = train(training_request(tmp_path / name, base, n_epochs=4, batch_size=4), Moving(moves))
        assert done is not None
        return (done.model_dir / "adapter_model.safetensors").read_bytes()

    base = BaseModel("wide", str(write_text_model(tmp_path / "model", width=width)), vision=False)
    assert weights("steady", moves=False) == weights("moving", moves=True)


def test_the_towers_last_blocks_have_the_same_gradients_on_any_number_of_threads() -> None:
    torch.manual_seed(0)
    projector, features = BundledVision(width=32).projector.requires_grad_(True), torch.randn(4 * 9, 16 * 112)
    tower, projector.layers = projector.get_submodule("tower"), torch.nn.Identity()

    def gradients(n: int) -> list[torch.Tensor]:
        torch.set_num_threads(n)
        tower.zero_grad()
        seen = projector(features)
        (seen * torch.linspace(-1, 1, seen.numel()).view_as(seen)).sum().backward()
        return [weight.grad.clone() for weight in tower.parameters() if weight.grad is not None]

    alone, shared = gradients(1), gradients(2)
    assert len(alone) == len(list(tower.parameters()))
    assert all(torch.equal(*pair) for pair in zip(alone, shared, strict=True))


def test_the_projectors_norm_has_the_same_gradients_on_any_number_of_threads() -> None:
    torch.manual_seed(0)
    norm, features = SteadyLayerNorm(1280), torch.randn(72, 1280)

    def gradients(n: int) -> list[torch.Tensor]:
        torch.set_num_threads(n)
        norm.zero_grad()
        (norm(features) * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        return [parameter.grad.clone() for parameter in norm.parameters() if parameter.grad is not None]

    assert all(torch.equal(*pair) for pair in zip(gradients(1), gradients(2), strict=True))
    assert torch.allclose(norm(features), torch.nn.functional.layer_norm(features, (1280,)), atol=1e-6)
