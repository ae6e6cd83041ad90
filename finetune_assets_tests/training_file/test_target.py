from pathlib import Path

import pytest

from finetune_assets.errors import TargetError
from finetune_assets.training_file.target import OPENAI, find_target, nearest_target
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.training_file.chats import assistant, chat, codes, good, image, user, write


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "images"),
    [
        ("openai", None, 65_536, 10),
        ("openai", "gpt-4o-mini", 65_536, 10),
        ("openai", "gpt-3.5-turbo-0125", 16_385, 10),
        ("openai", "ft:gpt-3.5-turbo-0613:org::abc", 4_096, 10),
        ("azure", "gpt-4o-2024-08-06", 65_536, 64),
        ("azure", f"gpt-35-turbo-0125.ft-{'0' * 32}-x", 16_385, 64),
        ("https://res.openai.azure.com/openai/v1/", None, 65_536, 64),
        ("http://127.0.0.1:8321/v1", "anything", None, 10),
        ("https://example.com/v1", "anything", None, 10),
    ],
)
def test_limits_are_those_of_provider_and_model(
    provider: str, model: str | None, tokens: int | None, images: int
) -> None:
    target = find_target(provider, model)
    assert (target.max_tokens, target.max_images) == (tokens, images)


@pytest.mark.parametrize(
    ("provider", "model", "told"),
    [
        ("opnai", None, r"the provider 'opnai' is not known \(did you mean openai\?\); known are openai, azure, local"),
        ("ftp://x", None, "or give a base URL such as"),
        ("openai", "gpt-4o-minni", r"did you mean gpt-4o-mini-2024-07-18\?"),
        ("azure", "smollm2", "the model 'smollm2' is not known at azure.*; known are gpt-4.1-2025-04-14"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones_and_the_nearest(
    provider: str, model: str | None, told: str
) -> None:
    with pytest.raises(TargetError, match=told):
        find_target(provider, model)


def test_a_model_newer_than_the_table_has_the_common_limits() -> None:
    assert nearest_target("openai", "gpt-9").max_tokens == OPENAI.max_tokens
    with pytest.raises(TargetError):
        nearest_target("opnai", "gpt-9")


def test_a_byte_order_mark_is_right_for_azure_and_a_warning_for_openai(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", *good(12))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert codes(validate(path).files[0]) == [(1, "byte_order_mark")]
    assert validate(path).ok
    for provider in ("azure", "local"):
        assert codes(validate(path, target=find_target(provider)).files[0]) == []


def test_a_byte_order_mark_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", *good(12))
    path.write_bytes(path.read_bytes() + b"\xef\xbb\xbf" + path.read_bytes().replace(b"even", b"odd"))
    assert codes(validate(path, target=find_target("azure")).files[0]) == [(13, "invalid_encoding")]


def test_a_method_that_the_model_is_not_trained_by_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", *good(12))
    [report] = validate(path, target=find_target("openai", "o4-mini")).files
    assert codes(report) == [(None, "method_not_supported")]
    assert "only by reinforcement" in report.errors[0].message


def test_images_for_a_model_that_is_not_trained_on_them_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", *good(12), chat(user([image()]), assistant()))
    assert codes(validate(path, target=find_target("openai", "gpt-4o-mini")).files[0]) == [(None, "no_image_training")]
    assert codes(validate(path, target=find_target("openai", "gpt-4o")).files[0]) == []
