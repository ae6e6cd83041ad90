"""Completions that a client wants kept (`store`), through the unmodified SDK."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types import FileObject

from finetune_assets.server import keys
from finetune_assets.server.database.completions import MAX_BYTES
from finetune_assets_tests.server.networks import chat
from finetune_assets_tests.server_process import ServerProcess


def kept(client: openai.OpenAI, question: str = "a?", **how: Any) -> Any:
    create: Any = client.chat.completions.create
    usual = {"model": "tiny-text", "messages": chat(question), "max_tokens": 2, "store": True}
    return create(**(usual | how))


def test_what_is_stored_is_read_as_it_was_answered_with_its_metadata(client: openai.OpenAI) -> None:
    answered = kept(client, metadata={"topic": "cells"}, seed=1, logprobs=True)
    found = client.chat.completions.retrieve(answered.id)
    assert found.to_dict() == answered.to_dict() | {"metadata": {"topic": "cells"}}


def test_what_is_not_stored_is_not_kept(client: openai.OpenAI) -> None:
    answered = kept(client, store=False)
    with pytest.raises(openai.NotFoundError, match="only those that were asked for with 'store' are kept"):
        client.chat.completions.retrieve(answered.id)


def test_completions_are_chosen_by_model_and_metadata_and_paged(client: openai.OpenAI) -> None:
    ids = [kept(client, f"{n}?", metadata={"run": "paged", "even": str(n % 2 == 0)}).id for n in range(5)]
    listed = client.chat.completions.list(limit=2, metadata={"run": "paged"})
    assert ([each.id for each in listed.data], listed.has_more) == (ids[:2], True)
    assert [each.id for each in listed] == ids
    newest = client.chat.completions.list(metadata={"run": "paged"}, order="desc", limit=1)
    assert newest.data[0].id == ids[-1]
    even = client.chat.completions.list(metadata={"run": "paged", "even": "True"})
    assert [each.id for each in even] == ids[::2]
    assert client.chat.completions.list(model="gpt-99", metadata={"run": "paged"}).data == []


def test_metadata_is_replaced_and_a_deleted_completion_is_gone_though_pages_go_on_after_it(
    client: openai.OpenAI,
) -> None:
    first, second = (kept(client, metadata={"run": "deleted"}).id for _ in range(2))
    updated = client.chat.completions.update(first, metadata={"run": "deleted", "checked": "yes"})
    assert updated.to_dict()["metadata"] == {"run": "deleted", "checked": "yes"}
    assert client.chat.completions.delete(first).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.delete(first)
    after = client.chat.completions.list(metadata={"run": "deleted"}, after=first)
    assert [each.id for each in after.data] == [second]


def test_the_messages_that_were_asked_are_told(server: ServerProcess) -> None:
    client = openai.OpenAI(base_url=server.base_url, api_key=server.key)  # to the strict one all are assistants
    said = [{"role": "system", "content": "Be kind."}, *chat("a?", "Yes"), *chat("b?")]
    found = client.chat.completions.messages.list(kept(client, messages=said).id, limit=3)
    assert [(each.role, each.content) for each in found] == [(each["role"], each["content"]) for each in said]
    assert [each.role for each in client.chat.completions.messages.list(kept(client).id, order="desc")] == ["user"]


def test_a_stream_is_kept_as_the_whole_that_it_was(client: openai.OpenAI) -> None:
    stream: Any = kept(client, stream=True, temperature=0, max_tokens=4)
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    found = client.chat.completions.retrieve(chunks[0].id)
    assert (found.choices[0].message.content, found.created) == (said, chunks[0].created)


def test_a_conversation_that_is_too_large_is_refused_before_it_is_answered(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="too large to be kept") as refused:
        kept(client, "a" * MAX_BYTES)
    assert (refused.value.param, refused.value.code) == ("store", "stored_completions_full")


def test_another_key_does_not_see_them(server: ServerProcess, client: openai.OpenAI) -> None:
    mine = kept(client)
    value = keys.add(server.home, "another", ["read", "chat"], None)
    other = openai.OpenAI(base_url=server.base_url, api_key=value)
    with pytest.raises(openai.NotFoundError):
        other.chat.completions.retrieve(mine.id)
    assert other.chat.completions.list().data == []
    keys.remove(server.home, "another")


def test_a_training_file_is_made_of_those_that_were_not_cut_off(client: openai.OpenAI) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["Yes"]}}}
    for n in range(3):
        kept(client, f"Is {n} fine?", metadata={"run": "taught"}, response_format=schema, max_tokens=9)
    make: Any = client.post
    made = make("/chat/completions/training_file", body={"metadata": {"run": "taught"}}, cast_to=FileObject)
    lines = [json.loads(line) for line in client.files.content(made.id).text.splitlines()]
    answer = {"role": "assistant", "content": '"Yes"'}
    assert lines == [{"messages": [*chat(f"Is {n} fine?"), answer]} for n in range(3)]
    cut = kept(client, metadata={"run": "taught"}, max_tokens=1, logit_bias={"2": -100})
    with pytest.raises(openai.BadRequestError, match=f"{cut.id} was cut off"):
        make("/chat/completions/training_file", body={"metadata": {"run": "taught"}}, cast_to=FileObject)
