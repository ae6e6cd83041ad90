"""Several keys: each for its purpose, as often as it may, known and refused while the server runs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_assets.server import keys
from finetune_assets.server.keys import Key, KeyNameError
from finetune_assets_tests.server_process import ServerProcess

ASKED: dict[str, Callable[[openai.OpenAI], Any]] = {
    "look": lambda client: client.models.list(),
    "ask": lambda client: client.chat.completions.create(
        model="tiny-text", messages=[{"role": "user", "content": "x"}], max_tokens=1
    ),
    "upload": lambda client: client.files.create(file=("a", b"x"), purpose="vision"),
    "train": lambda client: client.fine_tuning.jobs.create(model="tiny-text", training_file="file-none"),
}


@pytest.fixture
def name(server: ServerProcess) -> Iterator[str]:
    """A name that is free, and free again afterwards."""
    name = f"key-{secrets.token_hex(4)}"
    yield name
    if any(key.name == name for key in keys.listed(server.home)):
        keys.remove(server.home, name)


def client_of(server: ServerProcess, name: str, *scopes: str, per_minute: int | None = None) -> openai.OpenAI:
    value = keys.add(server.home, name, scopes, per_minute)
    return openai.OpenAI(base_url=server.base_url, api_key=value, max_retries=0)


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (["read"], {"look"}),
        (["chat"], {"ask", "upload"}),
        (["train"], {"upload", "train"}),
        (["admin"], {"look", "ask", "upload", "train"}),
    ],
)
def test_a_key_is_for_its_scopes_alone(server: ServerProcess, name: str, scopes: list[str], may: set[str]) -> None:
    client = client_of(server, name, *scopes)
    allowed = set()
    for what, ask in ASKED.items():
        try:
            ask(client)
        except openai.PermissionDeniedError as refused:
            assert refused.code == "insufficient_scope"
            assert name in refused.message
            continue
        except openai.BadRequestError as refused:
            assert refused.code == "file_not_found"
        allowed.add(what)
    assert allowed == may


def test_a_key_that_is_taken_away_is_refused_at_once(server: ServerProcess, name: str) -> None:
    client = client_of(server, name, "read")
    client.models.list()
    keys.remove(server.home, name)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_key_with_a_limit_is_told_how_much_is_left(server: ServerProcess, name: str) -> None:
    client = client_of(server, name, "read", per_minute=2)
    left = [client.models.with_raw_response.list().headers["x-ratelimit-remaining-requests"] for _ in range(2)]
    assert left == ["1", "0"]
    with pytest.raises(openai.RateLimitError, match="may ask 2 times a minute") as refused:
        client.models.list()
    assert refused.value.response.headers["x-ratelimit-limit-requests"] == "2"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 60


def test_what_keys_change_is_noted_with_their_names(server: ServerProcess, name: str) -> None:
    client = client_of(server, name, "read", "train")
    file = client.files.create(file=("secret name", b"secret content"), purpose="vision")
    client.files.retrieve(file.id)
    client.files.delete(file.id)
    audit = server.home / keys.AUDIT
    noted = [json.loads(line) for line in audit.read_text().splitlines()]
    ours = [(line["method"], line["path"], line["status"]) for line in noted if line["key"] == name]
    assert ours == [("POST", "/v1/files", 200), ("DELETE", f"/v1/files/{file.id}", 200)]
    assert "secret" not in audit.read_text()
    assert audit.stat().st_mode & 0o077 == 0


def test_values_of_keys_are_kept_nowhere(tmp_path: Path) -> None:
    value = keys.add(tmp_path, "ann", ["read"])
    assert value not in (tmp_path / keys.FILE).read_text()
    assert (tmp_path / keys.FILE).stat().st_mode & 0o077 == 0


def test_names_and_scopes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    keys.add(tmp_path, "ann", ["read"])
    with pytest.raises(KeyNameError, match="there is a key of the name 'ann'"):
        keys.add(tmp_path, "ann", ["read"])
    with pytest.raises(KeyNameError, match="no scope 'write'; there are read, chat, train, admin"):
        keys.add(tmp_path, "bob", ["write"])
    with pytest.raises(KeyNameError, match="no key of the name 'bob'; there are ann"):
        keys.remove(tmp_path, "bob")


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/batches/b/cancel", "/v1/chat/completions", "/v1/uploads/u/parts"])
def test_asking_needs_no_right_to_train(path: str) -> None:
    assert Key("k", "", ("chat",)).may("POST", path)
    assert not Key("k", "", ("read",)).may("POST", path)


@pytest.mark.parametrize("path", ["/v1/models/m", "/v1/fine_tuning/jobs", "/v1/chats", "/v1/filesystem", "/unknown"])
def test_everything_else_that_changes_something_needs_the_right_to_train(path: str) -> None:
    assert not Key("k", "", ("read", "chat")).may("POST", path)
    assert Key("k", "", ("train",)).may("DELETE", path)
