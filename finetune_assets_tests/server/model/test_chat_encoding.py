from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from finetune_assets.server.model.chat_encoding import (
    ImageFeatures,
    PromptError,
    Sequence,
    encode_prompt,
)
from finetune_assets.server.model.network import Network, load
from finetune_assets_tests.server.networks import (
    bundled_vision_base,
    chat,
    data_url,
    encode_example,
    picture,
    text_base,
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load(text_base(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load(bundled_vision_base(tmp_path_factory.mktemp("models")))


def learned_text(network: Network, sequence: Sequence) -> str:
    return network.tokenizer.decode([i for i, on in zip(sequence.ids, sequence.learned, strict=True) if on])


def test_only_the_answer_and_its_end_are_learned(network: Network) -> None:
    sequence = encode_example(network, chat("Is it fine?", "Yes"), ImageFeatures(network))
    assert learned_text(network, sequence) == "Yes<|im_end|>"


def test_every_assistant_turn_is_learned_unless_its_weight_is_0(network: Network) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a?"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "b?"},
        {"role": "assistant", "content": "two", "weight": 0},
        {"role": "user", "content": "c?"},
        {"role": "assistant", "content": "three", "weight": 1},
    ]
    sequence = encode_example(network, messages, ImageFeatures(network))
    assert learned_text(network, sequence) == "one<|im_end|>three<|im_end|>"


def test_the_trained_prompt_is_the_generated_prompt(network: Network) -> None:
    messages = chat("Is it fine?", "Yes")
    example = encode_example(network, messages, ImageFeatures(network))
    prompt = encode_prompt(network, messages[:1], ImageFeatures(network))
    assert example.ids[: len(prompt.ids)] == prompt.ids
    assert example.learned.index(True) == len(prompt.ids)


def test_a_developer_message_is_a_system_message(network: Network) -> None:
    def ids(role: str) -> list[int]:
        messages = [{"role": role, "content": "Be brief."}, *chat("a?")]
        return encode_prompt(network, messages, ImageFeatures(network)).ids

    assert ids("developer") == ids("system")


def test_an_image_takes_9_slots_where_it_stands(seeing: Network) -> None:
    features = ImageFeatures(seeing)
    sequence = encode_prompt(seeing, chat("what?", image=picture("red")), features)
    assert sequence.ids.count(-1) == 9
    question = seeing.tokenizer("what?", add_special_tokens=False).input_ids
    assert sequence.ids[sequence.ids.index(-1) - len(question) : sequence.ids.index(-1)] == question
    assert [tuple(image.shape) for image in sequence.images] == [(9, 16 * 112)]


def test_two_images_keep_their_order(seeing: Network) -> None:
    features = ImageFeatures(seeing)
    urls = [data_url(picture(color)) for color in ("red", "blue")]
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    sequence = encode_prompt(seeing, [{"role": "user", "content": content}], features)
    assert [image.tolist() for image in sequence.images] == [features.of(url).tolist() for url in urls]
    assert sequence.images[0].tolist() != sequence.images[1].tolist()


def test_the_marker_in_a_users_text_makes_no_image_slot(seeing: Network) -> None:
    assert seeing.vision is not None
    sequence = encode_prompt(seeing, chat(f"a{seeing.vision.marker}b"), ImageFeatures(seeing))
    assert -1 not in sequence.ids


def test_an_image_passes_the_tower_once(seeing: Network) -> None:
    features = ImageFeatures(seeing)
    url = data_url(picture("red"))
    assert features.of(url) is features.of(url)


def test_two_models_look_at_images_one_after_the_other() -> None:
    # Without turns both look at once and meet; with them the one that looks waits for the other in vain.
    meeting = threading.Barrier(2)

    class Looking:
        def features(self, _image: Image.Image) -> Tensor:
            with suppress(threading.BrokenBarrierError):
                meeting.wait(0.3)
                raise AssertionError("two images were looked at together")
            return torch.zeros(1, 1)

    models: list[Any] = [SimpleNamespace(vision=Looking(), base=None) for _ in range(2)]
    with ThreadPoolExecutor(2) as both:
        looked = both.map(lambda model: ImageFeatures(model).of(data_url(picture("red"))), models)
    assert [tuple(features.shape) for features in looked] == [(1, 1), (1, 1)]


def test_the_feature_cache_keeps_to_its_budget(seeing: Network) -> None:
    features = ImageFeatures(seeing, budget_bytes=9 * 16 * 112 * 4)
    red, blue = data_url(picture("red")), data_url(picture("blue"))
    first = features.of(red)
    features.of(blue)
    assert features.of(red) is not first


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.com/a.png", "fetches no images"),
        ("ftp://example.com/a.png", "must be a data URL"),
        ("data:image/png;base64,%%%", "invalid base64"),
        ("data:image/png;base64,aGVsbG8=", "cannot be used"),
        ("data:text/plain;base64,aGVsbG8=", "must be a data URL"),
    ],
)
def test_what_is_not_an_inlined_image_is_refused(seeing: Network, url: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        ImageFeatures(seeing).of(url)


def test_a_text_model_refuses_images(network: Network) -> None:
    with pytest.raises(PromptError, match="'tiny-text' takes no images"):
        encode_prompt(network, chat("what?", image=picture("red")), ImageFeatures(network))


def test_the_bundled_projector_starts_out_the_same_every_time(tmp_path: Path, seeing: Network) -> None:
    again = load(bundled_vision_base(tmp_path))
    assert again.vision is not None
    assert seeing.vision is not None
    first, second = (vision.projector.state_dict() for vision in (seeing.vision, again.vision))
    assert all(first[name].equal(second[name]) for name in first)
