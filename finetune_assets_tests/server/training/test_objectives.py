"""The losses, against numbers made independently."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model.chat_encoding import ImageFeatures
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.training.examples import Example, Pair, Reader
from finetune_assets.server.training.feature_file import FeatureFile
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.objectives import Preference
from finetune_assets_tests.server.networks import bundled_vision_base, chat, encode_example, picture, text_base
from finetune_assets_tests.server.training.test_loop import training_request
from finetune_assets_tests.server.watchers import Recorder

pytestmark = pytest.mark.precision


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


def write_pairs(path: Path, pairs: list[tuple[Any, ...]]) -> Path:
    """A file of (question, preferred answer, other answer) or these and an image."""
    lines = [
        {
            "input": {"messages": chat(question, None, *image)},
            "preferred_output": [{"role": "assistant", "content": preferred}],
            "non_preferred_output": [{"role": "assistant", "content": other}],
        }
        for question, preferred, other, *image in pairs
    ]
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return path


def logprob(network: Network, example: Example) -> float:
    """Of the learned tokens, by the whole model's own forward pass."""
    ids = example.ids.long()
    logprobs = network.model(input_ids=ids[None]).logits[0].log_softmax(-1)
    places = example.learned.nonzero().flatten()
    return float(sum(logprobs[place - 1, ids[place]] for place in places))


@pytest.mark.usefixtures("in_float32")
def test_the_dpo_loss_is_equation_7_of_the_paper(tmp_path: Path, base: BaseModel) -> None:
    network = load(base)
    reader = Reader(network, FeatureFile(network, tmp_path / "features"))
    file = write_pairs(
        tmp_path / "p.jsonl", [("a?", "Yes", "No"), ("a longer one?", "No", "Yes, it is"), ("a?", "x", "y")]
    )
    pairs = reader.pairs(file)
    for pair, reference in zip(pairs, (0.5, -2.0, 1.0), strict=True):
        pair.reference = reference
    loss, right = Preference(network, beta=0.3).losses(pairs)
    gains = [logprob(network, p.preferred) - logprob(network, p.other) - p.reference for p in pairs]
    expected = sum(-torch.nn.functional.logsigmoid(torch.tensor(0.3 * gain)).item() for gain in gains)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert int(right) == sum(gain > 0 for gain in gains)


def test_a_pair_learns_its_answers_alone(tmp_path: Path, base: BaseModel) -> None:
    network = load(base)
    reader = Reader(network, FeatureFile(network, tmp_path / "features"))
    [pair] = reader.pairs(write_pairs(tmp_path / "p.jsonl", [("a?", "Yes", "No")]))
    for example, answer in ((pair.preferred, "Yes"), (pair.other, "No")):
        assert network.tokenizer.decode(example.ids[example.learned]).startswith(answer)
        assert int(example.learned.sum()) < len(example)


def test_preferred_answers_win_after_training(tmp_path: Path, base: BaseModel) -> None:
    file = write_pairs(tmp_path / "p.jsonl", [(f"Is {n} fine?", "Yes", "No") for n in range(12)])
    recorder = Recorder()
    request = training_request(
        tmp_path, base, method="dpo", training_file=file, validation_file=file, n_epochs=4, beta=0.1
    )
    train(request, recorder)
    assert recorder.steps[-1].full_valid_accuracy == 1.0
    assert (recorder.steps[-1].full_valid_loss or 1) < 0.65


@pytest.mark.usefixtures("in_float32")
def test_the_dpo_loss_is_log_2_before_anything_has_moved(tmp_path: Path, base: BaseModel) -> None:
    file = write_pairs(tmp_path / "p.jsonl", [(f"Is {n} fine?", "Yes", "No") for n in range(12)])
    recorder = Recorder(stop_after=1)
    train(training_request(tmp_path, base, method="dpo", training_file=file, validation_file=None), recorder)
    assert recorder.steps[0].train_loss == pytest.approx(math.log(2), abs=1e-4)


def test_a_resumed_dpo_training_keeps_its_reference(tmp_path: Path, base: BaseModel) -> None:
    file = write_pairs(tmp_path / "p.jsonl", [(f"Is {n} fine?", "Yes", "No") for n in range(12)])

    def losses(folder: str, *stops: int | None) -> list[float]:
        (tmp_path / folder).mkdir()
        request = training_request(tmp_path / folder, base, method="dpo", training_file=file, validation_file=None)
        recorders = [Recorder(stop_after=stop) for stop in stops]
        for recorder in recorders:
            train(request, recorder)
        return [step.train_loss for recorder in recorders for step in recorder.steps]

    assert losses("interrupted", 2, None) == losses("whole", None)


def test_pairs_may_show_images(tmp_path: Path) -> None:
    pairs = [("Red?", "Yes", "No", picture(colour)) for colour in ("red", "darkred")] * 5
    file = write_pairs(tmp_path / "p.jsonl", pairs)
    recorder = Recorder()
    request = training_request(
        tmp_path, bundled_vision_base(tmp_path), method="dpo", training_file=file, validation_file=None, n_epochs=1
    )
    result = train(request, recorder)
    assert result is not None
    assert (result.model_dir / "projector.safetensors").exists()


def test_features_come_back_from_disk_as_they_were_made(tmp_path: Path) -> None:
    network = load(bundled_vision_base(tmp_path))
    [part] = [p for p in chat("?", None, picture("red"))[0]["content"] if p["type"] == "image_url"]
    url = part["image_url"]["url"]
    made = FeatureFile(network, tmp_path / "features").of(url)
    assert torch.allclose(made, ImageFeatures(network).of(url), atol=1e-4)
    assert torch.equal(FeatureFile(network, tmp_path / "features").of(url), made)
    assert (tmp_path / "features/features.bin").stat().st_size == made.nbytes


@pytest.mark.parametrize("cut", ["features.bin", "features.jsonl"])
def test_half_written_features_are_made_again(tmp_path: Path, cut: str) -> None:
    network = load(bundled_vision_base(tmp_path))
    urls = [chat("?", None, picture(c))[0]["content"][1]["image_url"]["url"] for c in ("red", "blue")]
    first = FeatureFile(network, tmp_path / "features")
    expected = [first.of(url).clone() for url in urls]
    file = tmp_path / "features" / cut
    file.write_bytes(file.read_bytes()[:-3])
    again = FeatureFile(network, tmp_path / "features")
    assert all(torch.equal(again.of(url), made) for url, made in zip(urls, expected, strict=True))


def test_a_pair_cut_to_nothing_is_dropped(tmp_path: Path, base: BaseModel) -> None:
    network = load(base)
    reader = Reader(network, FeatureFile(network, tmp_path / "features"))
    pairs: list[Pair] = reader.pairs(
        write_pairs(tmp_path / "p.jsonl", [("a? " * 600, "Yes", "No"), ("b?", "No", "Yes")])
    )
    assert (len(pairs), reader.dropped) == (1, 1)


def test_a_conversation_is_learned_turn_by_turn(base: BaseModel) -> None:
    network = load(base)
    messages = [*chat("a?", "Yes"), *chat("b?", "No")]
    sequence = encode_example(network, messages, ImageFeatures(network))
    learned = [token for token, wanted in zip(sequence.ids, sequence.learned, strict=True) if wanted]
    assert network.tokenizer.decode(learned) == "Yes<|im_end|>No<|im_end|>"
