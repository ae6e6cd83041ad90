"""/v1/uploads over HTTP, through the unmodified SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types import Upload


def start(client: openai.OpenAI, size: int = 6, **options: Any) -> Upload:
    request = {"bytes": size, "filename": "train.jsonl", "mime_type": "text/jsonl", "purpose": "user_data"} | options
    return client.uploads.create(**request)


def add(client: openai.OpenAI, upload: Upload, content: bytes) -> str:
    return client.uploads.parts.create(upload.id, data=content).id


def test_parts_become_a_file_in_the_order_of_their_completion(client: openai.OpenAI) -> None:
    upload = start(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert (upload.status, upload.bytes, upload.file) == ("pending", 6, None)
    assert upload.expires_at - upload.created_at == 3600
    last, first = add(client, upload, b"456"), add(client, upload, b"123")
    completed = client.uploads.complete(upload.id, part_ids=[first, last], md5="E10ADC3949BA59ABBE56E057F20F883E")
    assert completed.status == "completed"
    assert completed.file is not None
    assert (completed.file.filename, completed.file.purpose) == ("train.jsonl", "user_data")
    assert completed.file.expires_at is not None
    assert client.files.retrieve(completed.file.id) == completed.file
    assert client.files.content(completed.file.id).read() == b"123456"


def test_the_sdk_can_send_a_file_in_chunks(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 4096
    upload = client.uploads.upload_file_chunked(
        file=content, filename="big.jsonl", bytes=len(content), mime_type="text/jsonl", purpose="user_data",
        part_size=300_000,
    )  # fmt: skip
    assert upload.file is not None
    assert client.files.content(upload.file.id).read() == content


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"purpose": "homework"}, "purpose"),
        ({"bytes": 0}, "bytes"),
        ({"bytes": (8 << 30) + 1}, "bytes"),
        ({"bytes": (200 << 20) + 1, "purpose": "batch"}, "bytes"),
        ({"filename": ""}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "expires_after.seconds"),
    ],
)
def test_an_upload_out_of_bounds_is_refused(client: openai.OpenAI, request_: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        start(client, **request_)
    assert refused.value.param == param


def test_parts_that_do_not_add_up_are_refused_and_the_upload_stays_pending(client: openai.OpenAI) -> None:
    upload, other = start(client), start(client)
    part, foreign = add(client, upload, b"123456"), add(client, other, b"123456")
    wrong: dict[str, dict[str, Any]] = {
        "the parts have 0 bytes": {"part_ids": []},
        "a part is named twice": {"part_ids": [part, part]},
        "has no part 'part_none'": {"part_ids": ["part_none"]},
        f"has no part '{foreign}'": {"part_ids": [foreign]},
        "the parts have the md5 e10adc39": {"part_ids": [part], "md5": "0" * 32},
    }
    for message, request in wrong.items():
        with pytest.raises(openai.BadRequestError, match=message):
            client.uploads.complete(upload.id, **request)
    assert client.uploads.complete(upload.id, part_ids=[part]).status == "completed"


@pytest.mark.parametrize("end", ["complete", "cancel"])
def test_an_upload_that_is_over_takes_nothing_more(client: openai.OpenAI, end: str) -> None:
    upload = start(client)
    part = add(client, upload, b"123456")
    actions: list[Callable[[], Any]] = [
        lambda: client.uploads.parts.create(upload.id, data=b"1"),
        lambda: client.uploads.complete(upload.id, part_ids=[part]),
        lambda: client.uploads.cancel(upload.id),
    ]
    over = actions[1 if end == "complete" else 2]()
    for action in actions:
        with pytest.raises(openai.BadRequestError, match=f"is {over.status}, not pending"):
            action()


def test_the_client_that_got_no_answer_to_its_completion_gets_the_file_when_it_asks_again(
    client: openai.OpenAI,
) -> None:
    upload = start(client)
    part = add(client, upload, b"123456")
    completed = client.uploads.complete(upload.id, part_ids=[part])
    again = client.uploads.complete(upload.id, part_ids=[part], extra_headers={"x-stainless-retry-count": "1"})
    assert again == completed


def test_an_unknown_upload_is_not_found(client: openai.OpenAI) -> None:
    actions: list[Callable[[], Any]] = [
        lambda: client.uploads.parts.create("upload_none", data=b"1"),
        lambda: client.uploads.complete("upload_none", part_ids=[]),
        lambda: client.uploads.cancel("upload_none"),
    ]
    for action in actions:
        with pytest.raises(openai.NotFoundError, match="No such Upload object: upload_none"):
            action()
