"""Uploads that are found again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import openai
import pytest

from finetune_assets.errors import ProviderError
from finetune_assets.provider.files import upload_once
from finetune_assets_tests.provider.transports import LosesAnswers, NeverArrives, client_over
from finetune_assets_tests.server_process import ServerProcess


def write(folder: Path, content: str) -> Path:
    path = folder / "train.jsonl"
    path.write_text(content)
    return path


def ids(client: openai.OpenAI, sha256: str) -> list[str]:
    return [file.id for file in client.files.list(purpose="fine-tune") if sha256[:32] in file.filename]


def test_the_same_content_is_uploaded_once(client: openai.OpenAI, tmp_path: Path) -> None:
    path = write(tmp_path, '{"once": 1}\n')
    first, second = upload_once(client, path), upload_once(client, path)
    assert (first.id, first.reused, second.reused) == (second.id, False, True)
    assert ids(client, first.sha256) == [first.id]


def test_the_upload_carries_its_hash_and_size(client: openai.OpenAI, tmp_path: Path) -> None:
    content = '{"hash": "ä"}\n'
    uploaded = upload_once(client, write(tmp_path, content))
    assert uploaded.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert uploaded.bytes == len(content.encode())
    held = client.files.retrieve(uploaded.id)
    assert held.filename == f"train-{uploaded.sha256[:32]}.jsonl"
    assert client.files.content(uploaded.id).read() == content.encode()


def test_other_content_under_the_same_name_is_another_file(client: openai.OpenAI, tmp_path: Path) -> None:
    first = upload_once(client, write(tmp_path, '{"content": 1}\n'))
    second = upload_once(client, write(tmp_path, '{"content": 2}\n'))
    assert first.id != second.id


def test_a_file_of_another_size_under_our_name_is_not_ours(client: openai.OpenAI, tmp_path: Path) -> None:
    path = write(tmp_path, '{"size": 1}\n')
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    cut = client.files.create(file=(f"train-{sha256[:32]}.jsonl", b"cut"), purpose="fine-tune")
    assert upload_once(client, path).id != cut.id


@pytest.mark.parametrize("line", [LosesAnswers, NeverArrives])
def test_a_broken_line_leaves_exactly_one_file(
    server: ServerProcess, client: openai.OpenAI, tmp_path: Path, line: type[LosesAnswers | NeverArrives]
) -> None:
    path = write(tmp_path, f'{{"line": "{line.__name__}"}}\n')
    uploaded = upload_once(client_over(server, line()), path)
    assert ids(client, uploaded.sha256) == [uploaded.id]
    assert not uploaded.reused


def test_a_refused_file_is_explained(client: openai.OpenAI, tmp_path: Path) -> None:
    path = write(tmp_path, "x")
    with pytest.raises(ProviderError, match="answered 400"):
        upload_once(client, path, purpose="nonsense")  # pyright: ignore[reportArgumentType]
