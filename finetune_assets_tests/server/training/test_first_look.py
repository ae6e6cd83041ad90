"""What the vision tower learns before the language model does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from PIL import Image, ImageDraw

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.training.examples import Example
from finetune_assets.server.training.first_look import SHARED, labelled
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets_tests.server.networks import bundled_vision_base
from finetune_assets_tests.server.training.test_loop import training_request, write_examples
from finetune_assets_tests.server.watchers import Recorder

TOLD = "The vision tower learns alone"
pytestmark = pytest.mark.xdist_group("first_look")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return bundled_vision_base(tmp_path_factory.mktemp("models"))


def drawn(shape: str, place: int) -> Image.Image:
    """A black figure somewhere on white."""
    image = Image.new("RGB", (96, 96), "white")
    box = (8 + 3 * place, 10 + 2 * place, 48 + 3 * place, 50 + 2 * place)
    getattr(ImageDraw.Draw(image), shape)(box, fill="black")
    return image


def shapes_request(folder: Path, base: BaseModel, n: int = 2 * SHARED, **changes: object) -> TrainingRequest:
    folder.mkdir(exist_ok=True)
    shapes = [("Round?", "Yes" if k % 2 else "No", drawn("ellipse" if k % 2 else "rectangle", k)) for k in range(n)]
    file = write_examples(folder / "shapes.jsonl", shapes)
    usual: dict[str, object] = {
        "training_file": file,
        "validation_file": None,
        "n_epochs": 1,
        "batch_size": 10,
        "learning_rate_multiplier": 1.0,
    }
    return training_request(folder, base, **usual | changes)


@dataclass(frozen=True)
class Trained:
    """A job that nothing disturbed."""

    folder: Path
    told: list[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: BaseModel) -> Trained:
    folder = tmp_path_factory.mktemp("whole")
    return Trained(folder, looks(shapes_request(folder, base)))


def looks(request: TrainingRequest) -> list[str]:
    """Train, and return what was said of the tower."""
    recorder = Recorder()
    train(request, recorder)
    return [note for note in recorder.notes if note.startswith(TOLD)]


def weights(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "out/model").glob("*.safetensors"))]


def test_the_tower_learns_to_tell_answers_apart_and_says_how_well(whole: Trained) -> None:
    assert [note.split(":")[0] for note in whole.told] == [f"{TOLD}, pass {k} of 20" for k in range(1, 21)]
    assert whole.told[-1].endswith(": 100% of 20 images had the right one of 2 answers")


def test_answers_that_too_few_examples_share_are_not_learned_alone(tmp_path: Path, base: BaseModel) -> None:
    assert not looks(shapes_request(tmp_path, base, n=2 * SHARED - 2))


def test_a_model_that_was_fine_tuned_before_keeps_its_tower(tmp_path: Path, base: BaseModel, whole: Trained) -> None:
    assert not looks(shapes_request(tmp_path, base, adapter=whole.folder / "out/model"))


class DiesLooking(Recorder):
    """Is killed in the tower's second pass."""

    def note(self, message: str, level: str = "info") -> None:
        super().note(message, level)
        if f"{TOLD}, pass 2" in message:
            raise KeyboardInterrupt


def test_a_job_that_dies_while_its_tower_learns_and_after_it_gives_the_same_model(
    tmp_path: Path, base: BaseModel, whole: Trained
) -> None:
    request = shapes_request(tmp_path, base)
    for dies in (DiesLooking(), Recorder(die_after=1)):
        with pytest.raises(KeyboardInterrupt):
            train(request, dies)
    assert not looks(request)  # it takes the tower that has learned
    assert weights(tmp_path) == weights(whole.folder) != []


def example(question: str, answer: str, n_images: int = 1) -> Example:
    ids = torch.tensor([*map(ord, question), -1, *map(ord, answer)], dtype=torch.int32)
    learned = torch.arange(len(ids)) > len(question)
    return Example(ids, learned, [torch.zeros(9, 4)] * n_images)


def numbers(examples: Sequence[Example]) -> list[int]:
    return [number for _, number in labelled(list(examples))]


def test_answers_are_numbered_question_by_question() -> None:
    kinds = [("a?", "No"), ("a?", "Yes"), ("b?", "No"), ("b?", "Yes")]
    assert numbers([example(*kind) for kind in kinds for _ in range(SHARED)]) == [
        k for k in range(4) for _ in range(SHARED)
    ]


@pytest.mark.parametrize(
    ("examples", "why"),
    [
        ([example("a?", "Yes")] * 2 * SHARED, "a question with one answer teaches nothing"),
        ([example(f"{k}?", "Yes" if k % 2 else "No") for k in range(4 * SHARED)], "questions differ"),
        ([example("a?", f"caption {k}") for k in range(4 * SHARED)], "answers differ"),
        ([example("a?", answer, 2) for answer in ("Yes", "No") for _ in range(SHARED)], "two images each"),
        ([example("a?", answer, 0) for answer in ("Yes", "No") for _ in range(SHARED)], "no image"),
    ],
)  # fmt: skip
def test_what_is_no_classification_of_images_is_not_looked_at(examples: list[Example], why: str) -> None:
    assert not labelled(examples), why


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=6), st.integers(1, 2 * SHARED))
@settings(max_examples=60, deadline=None)
def test_what_is_looked_at_is_most_of_the_examples_each_with_rivals(kinds: list[tuple[str, str]], times: int) -> None:
    examples = [example(*kind) for kind in kinds for _ in range(times)]
    found = Counter(numbers(examples))
    assert not found or 2 * found.total() > len(examples)
    assert all(count >= SHARED for count in found.values())
    assert set(found) == set(range(len(found))) and len(found) != 1
