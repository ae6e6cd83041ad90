"""/v1/files over HTTP, through the unmodified SDK."""

from __future__ import annotations

import hashlib

import openai
import pytest

from finetune_assets_tests.server_process import ServerProcess


def test_what_is_uploaded_comes_back_byte_for_byte(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 1000
    file = client.files.create(file=("räksmörgås.jsonl", content), purpose="fine-tune")
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        256_000,
        "räksmörgås.jsonl",
        "fine-tune",
        "processed",
    )
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content


def test_a_file_without_expiry_does_not_mention_one(client: openai.OpenAI) -> None:
    file = client.files.create(file=b"x", purpose="fine-tune")
    assert "expires_at" not in file.model_fields_set


def test_files_for_batches_are_kept_for_30_days_unless_told_otherwise(client: openai.OpenAI) -> None:
    file = client.files.create(file=b"x", purpose="batch")
    assert file.expires_at is not None
    assert file.expires_at - file.created_at in (30 * 86_400, 30 * 86_400 + 1)


def test_an_expiry_counts_from_the_upload(client: openai.OpenAI) -> None:
    file = client.files.create(file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at is not None
    assert file.expires_at - file.created_at == 3600


@pytest.mark.parametrize("seconds", [3599, 2_592_001])
def test_an_expiry_out_of_bounds_is_refused(client: openai.OpenAI, seconds: int) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds})
    assert refused.value.param == "expires_after[seconds]"


def test_an_unknown_purpose_is_refused_in_the_words_of_openai(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=b"x", purpose="homework")  # pyright: ignore[reportArgumentType]
    assert refused.value.param == "purpose"
    assert "'homework' is not one of ['assistants', " in str(refused.value)


def test_lists_are_paged_in_both_orders(client: openai.OpenAI) -> None:
    made = [client.files.create(file=b"x", purpose="user_data").id for _ in range(5)]
    upwards = client.files.list(purpose="user_data", order="asc", limit=2)
    assert [file.id for file in upwards.data] == made[:2]
    assert upwards.has_more
    assert [file.id for file in upwards] == made
    assert [file.id for file in client.files.list(purpose="user_data", limit=2)] == made[::-1]
    last = client.files.list(purpose="user_data", after=made[1])
    assert [file.id for file in last.data] == [made[0]]
    assert not last.has_more


def test_files_can_be_deleted_while_they_are_listed(client: openai.OpenAI) -> None:
    made = {client.files.create(file=b"x", purpose="vision").id for _ in range(5)}
    deleted = {client.files.delete(file.id).id for file in client.files.list(purpose="vision", limit=2)}
    assert deleted == made
    assert client.files.list(purpose="vision").data == []


def test_a_deleted_file_is_gone(server: ServerProcess, client: openai.OpenAI) -> None:
    content = b"bytes that no other file of these tests has"
    file = client.files.create(file=content, purpose="batch")
    stored = server.home / "files" / hashlib.sha256(content).hexdigest()
    assert stored.read_bytes() == content
    assert client.files.delete(file.id).deleted
    assert not stored.exists()
    for action in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}") as refused:
            action(file.id)
        assert (refused.value.param, refused.value.code) == ("id", None)


def test_a_file_whose_bytes_were_changed_on_the_disk_is_not_sent(server: ServerProcess, client: openai.OpenAI) -> None:
    content = b"bytes that will be cut off"
    file = client.files.create(
        file=content, purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    stored = server.home / "files" / hashlib.sha256(content).hexdigest()
    stored.write_bytes(content[:5])
    with pytest.raises(openai.InternalServerError, match="has 5 bytes on disk but was stored with 26") as refused:
        client.files.content(file.id)
    # OpenAI's clients are told not to repeat this.
    assert refused.value.response.headers["x-should-retry"] == "false"
    stored.unlink()
    with pytest.raises(openai.InternalServerError, match="are gone from the disk; upload it again"):
        client.files.content(file.id)
    client.files.create(file=content, purpose="fine-tune")
    assert client.files.content(file.id).read() == content
    client.files.delete(file.id)


def test_a_cursor_that_never_was_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.list(after="file-none")
    assert refused.value.param == "after"


@pytest.mark.parametrize("limit", [0, 10_001])
def test_a_page_size_out_of_bounds_is_refused(client: openai.OpenAI, limit: int) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.list(limit=limit)
    assert refused.value.param == "limit"


def test_the_sdk_sees_an_upload_as_processed_at_once(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(seconds: float) -> None:
        raise AssertionError(f"waited for {seconds} s")

    file = client.files.create(file=b"x", purpose="batch")
    monkeypatch.setattr(client.files, "_sleep", never)
    client.files.wait_for_processing(file.id)
