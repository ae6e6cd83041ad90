"""Streams of /v1/chat/completions, through the unmodified SDK and byte by byte."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("training")

QUESTION: Any = [{"role": "user", "content": "Is 3 fine?"}]
NO_END = {"0": -100, "1": -100, "2": -100}
ENDLESS = {"logit_bias": NO_END, "n": 128}
"""Answers as long as the context: seconds of work."""


def stream(client: openai.OpenAI, **parameters: Any) -> openai.Stream[ChatCompletionChunk]:
    wanted: Any = {"model": "tiny-text", "messages": QUESTION, "max_tokens": 6, "logit_bias": NO_END, "stream": True}
    return client.chat.completions.create(**(wanted | parameters))


def text(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def test_the_pieces_add_up_to_the_whole_answer(client: openai.OpenAI) -> None:
    parameters: Any = {"model": "tiny-text", "messages": QUESTION, "seed": 5, "n": 2, "logit_bias": NO_END}
    parameters["max_tokens"] = 12
    # The second time: as the stream, it then comes after a beginning that is in the cache, with sums in the same order.
    _first, whole = (client.chat.completions.create(**parameters) for _ in range(2))
    chunks = list(stream(client, **parameters))
    assert [text(chunks, i) for i in range(2)] == [choice.message.content for choice in whole.choices]
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1


def test_the_first_piece_names_the_role_and_the_last_says_why_it_ends(client: openai.OpenAI) -> None:
    chunks = list(stream(client))
    first, last = chunks[0].choices[0], chunks[-1].choices[0]
    assert (first.delta.role, first.delta.content, first.finish_reason) == ("assistant", "", None)
    assert last.delta.model_dump(exclude_unset=True) == {}
    assert last.finish_reason == "length"
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1])


def test_usage_comes_in_a_chunk_of_its_own_where_it_is_wanted(client: openai.OpenAI) -> None:
    *others, last = stream(client, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 6
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in others)
    assert all("usage" not in chunk.model_fields_set for chunk in stream(client))


def test_chunks_are_padded_to_even_sizes_unless_that_is_not_wanted(client: openai.OpenAI) -> None:
    sizes = {len(text([chunk])) + len(str(chunk.to_dict()["obfuscation"])) for chunk in stream(client)}
    assert sizes == {32}
    plain = stream(client, stream_options={"include_obfuscation": False})
    assert all("obfuscation" not in chunk.to_dict() for chunk in plain)


def test_log_probabilities_come_with_the_pieces(client: openai.OpenAI) -> None:
    chunks = list(stream(client, logprobs=True, top_logprobs=2))
    found = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    tokens = [token for logprobs in found for token in logprobs.content or []]
    assert len(tokens) == 6
    assert {len(token.top_logprobs) for token in tokens} == {2}


def test_a_wrong_request_is_an_ordinary_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        stream(client, model="gpt-99")
    with pytest.raises(openai.BadRequestError) as refused:
        stream(client, messages=[{"role": "user", "content": "word " * 600}])
    assert refused.value.code == "context_length_exceeded"


def test_the_bytes_are_server_sent_events_that_end_with_done(server: ServerProcess) -> None:
    body = {"model": "tiny-text", "messages": QUESTION, "max_tokens": 2, "stream": True}
    headers = {"Authorization": f"Bearer {server.key}"}
    answer = httpx2.post(f"{server.base_url}/chat/completions", json=body, headers=headers, timeout=PATIENCE_S)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events)


def in_flight(server: ServerProcess) -> dict[str, float]:
    """What /metrics says of work that is not done."""
    lines = httpx2.get(server.base_url.removesuffix("/v1") + "/metrics", timeout=PATIENCE_S).text.splitlines()
    wanted = ("completions_in_flight", 'engine_work{state="rows"}', 'engine_work{state="waiting"}')
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.split()[0] in wanted}


@pytest.mark.parametrize("streamed", [True, False])
def test_the_work_ends_when_the_client_is_gone(server: ServerProcess, streamed: bool) -> None:
    body = {"model": "tiny-text", "messages": QUESTION, "stream": streamed} | ENDLESS
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    url = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(url.netloc, timeout=PATIENCE_S)
    connection.request("POST", f"{url.path}/chat/completions", json.dumps(body), headers)
    if streamed:
        connection.getresponse().readline()
    wait_until(lambda: in_flight(server)["completions_in_flight"] > 0)
    connection.close()
    wait_until(lambda: set(in_flight(server).values()) == {0.0})


def test_a_stopping_server_ends_a_stream_with_an_error(home: Path) -> None:
    with ServerProcess(home) as server:
        chunks = stream(server.client(), **(ENDLESS | {"max_tokens": None}))
        next(chunks)
        server.process.terminate()
        with pytest.raises(openai.APIError, match="The server is stopping"):
            list(chunks)
        assert server.process.wait(timeout=PATIENCE_S) == 0
