"""What one key asks for, however much, holds nobody else's up; and a key has no more than its quotas."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import openai
import orjson
import pytest

from finetune_assets.server import keys
from finetune_assets.server.database.usage import NOBODY, Account
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.conftest import let_go, training_lines, upload
from finetune_assets_tests.server_process import ServerProcess, make_home

ASKED: dict[str, Any] = {"model": "tiny-text", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own, which other tests leave alone."""
    with ServerProcess(make_home(tmp_path_factory.mktemp("shared"))) as running:
        yield running


def someone(server: ServerProcess, quotas: Account = NOBODY) -> openai.OpenAI:
    """A client with a key of its own."""
    value = keys.add(server.home, f"key-{secrets.token_hex(4)}", ["read", "chat", "train"], quotas=quotas)
    return openai.OpenAI(base_url=server.base_url, api_key=value, max_retries=0, timeout=PATIENCE_S)


@contextmanager
def asking(client: openai.OpenAI, n: int) -> Iterator[list[float]]:
    """`n` requests at once, of 60 tokens each; when each was answered."""
    answered: list[float] = []

    def ask(number: int) -> None:
        client.chat.completions.create(**ASKED, max_tokens=60, seed=number)
        answered.append(time.monotonic())

    with ThreadPoolExecutor(n) as many:
        for number in range(n):
            many.submit(ask, number)
        yield answered
        many.shutdown(cancel_futures=True)


def test_a_request_does_not_wait_for_all_those_of_another_key(shared: ServerProcess) -> None:
    greedy, modest = someone(shared), someone(shared)
    modest.chat.completions.create(**ASKED, max_tokens=1)
    with asking(greedy, 64) as answered:
        wait_until(lambda: answered)
        modest.chat.completions.create(**ASKED, max_tokens=1)
        before = len(answered)
    assert before < 48, "most of them came later"


def lines(n: int, max_tokens: int) -> bytes:
    bodies = [{"custom_id": f"c{k}", "method": "POST", "url": "/v1/chat/completions",
               "body": ASKED | {"max_tokens": max_tokens, "seed": k}} for k in range(n)]  # fmt: skip
    return b"\n".join(map(orjson.dumps, bodies))


def batch(client: openai.OpenAI, content: bytes) -> str:
    file = client.files.create(file=("batch.jsonl", content), purpose="batch").id
    return client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h").id


def test_a_batch_does_not_wait_for_all_those_of_another_key(shared: ServerProcess) -> None:
    greedy, modest = someone(shared), someone(shared)
    many = [batch(greedy, lines(300, 200)) for _ in range(3)]
    wait_until(lambda: (greedy.batches.retrieve(many[0]).request_counts or 0) and
               greedy.batches.retrieve(many[0]).status == "in_progress")  # fmt: skip
    one = batch(modest, lines(1, 1))
    wait_until(lambda: modest.batches.retrieve(one).status == "completed")
    assert [greedy.batches.retrieve(each).status for each in many] == ["in_progress", "in_progress", "validating"]
    for each in many:
        greedy.batches.cancel(each)


def test_a_key_has_no_more_jobs_than_its_quota_and_a_repeated_request_is_no_second_one(shared: ServerProcess) -> None:
    client = someone(shared, Account(jobs=1))
    file = upload(client, training_lines(12))
    first = client.fine_tuning.jobs.with_raw_response.create(
        model="tiny-text", training_file=file, extra_headers={"Idempotency-Key": (key := secrets.token_hex(8))}
    )
    assert first.headers["x-ratelimit-limit-jobs"] == first.headers["x-ratelimit-remaining-jobs"] == "1"
    job = first.parse().id
    again = client.fine_tuning.jobs.create(
        model="tiny-text", training_file=file, extra_headers={"Idempotency-Key": key}
    )
    assert again.id == job
    with pytest.raises(
        openai.RateLimitError, match="has 1 fine-tuning jobs that are not over, of at most 1"
    ) as refused:
        client.fine_tuning.jobs.create(model="tiny-text", training_file=file)
    assert (refused.value.code, refused.value.type) == ("insufficient_quota", "jobs")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.response.headers["x-ratelimit-remaining-jobs"] == "0"
    client.fine_tuning.jobs.cancel(job)
    client.fine_tuning.jobs.cancel(client.fine_tuning.jobs.create(model="tiny-text", training_file=file).id)


def test_of_many_jobs_at_once_only_as_many_as_the_quota_are_made(shared: ServerProcess) -> None:
    client = someone(shared, Account(jobs=2))
    file = upload(client, training_lines(12))
    made: list[str] = []

    def make(_: int) -> None:
        with suppress(openai.RateLimitError):
            made.append(client.fine_tuning.jobs.create(model="tiny-text", training_file=file).id)

    with ThreadPoolExecutor(8) as many:
        list(many.map(make, range(8)))
    assert len(made) == 2
    let_go(client, *made)


def test_a_key_stores_no_more_than_its_quota(shared: ServerProcess) -> None:
    client = someone(shared, Account(disk=1000))
    stored = client.files.create(file=("a", b"x" * 600), purpose="vision")
    with pytest.raises(openai.RateLimitError, match="has stored 600 of its 1,000 bytes, and 500 more do not fit"):
        client.files.create(file=("a", b"y" * 500), purpose="vision")
    with pytest.raises(openai.RateLimitError, match="and 401 more do not fit"):
        client.uploads.create(filename="b", purpose="vision", bytes=401, mime_type="x")
    announced = client.uploads.create(filename="b", purpose="vision", bytes=400, mime_type="x")
    with pytest.raises(openai.RateLimitError, match="has stored 1,000 of its 1,000 bytes") as full:
        client.files.create(file=("a", b"y"), purpose="vision")
    assert full.value.response.headers["x-ratelimit-limit-disk"] == "1000"
    client.uploads.cancel(announced.id)
    client.files.delete(stored.id)
    client.files.create(file=("a", b"y" * 1000), purpose="vision")


def test_parts_of_an_upload_are_not_stored_without_end(shared: ServerProcess) -> None:
    client = someone(shared, Account(disk=1000))
    announced = client.uploads.create(filename="b", purpose="vision", bytes=10, mime_type="x")
    for _ in range(2):
        client.uploads.parts.create(announced.id, data=b"z" * 10)
    with pytest.raises(openai.BadRequestError, match="more than 2 times the 10 bytes"):
        client.uploads.parts.create(announced.id, data=b"z")
    client.uploads.cancel(announced.id)


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_has_used_its_tokens_waits_for_midnight(shared: ServerProcess, stream: bool) -> None:
    client = someone(shared, Account(tokens=20))
    told = client.chat.completions.with_raw_response.create(**ASKED, max_tokens=1).headers
    assert told["x-ratelimit-remaining-tokens"] == "20"
    while True:
        raw = client.chat.completions.with_raw_response
        try:
            answer = raw.create(**ASKED, max_tokens=5, stream=stream)
        except openai.RateLimitError as error:
            refused = error
            break
        if stream:
            list(answer.parse())
    assert "of its 20 tokens of this day" in str(refused)
    assert (refused.code, refused.type) == ("rate_limit_exceeded", "tokens")
    assert 0 < int(refused.response.headers["retry-after"]) <= 86_400
    assert refused.response.headers["x-ratelimit-remaining-tokens"] == "0"
    one = batch(client, lines(1, 1))
    wait_until(lambda: client.batches.retrieve(one).status == "completed")
    errors = client.files.content(client.batches.retrieve(one).error_file_id or "").text
    assert orjson.loads(errors)["response"]["status_code"] == 429
    with pytest.raises(openai.RateLimitError, match="tokens of this day"):
        client.fine_tuning.jobs.create(model="tiny-text", training_file=upload(client, training_lines(12)))


def test_health_is_told_while_a_key_changes_as_much_as_it_can(shared: ServerProcess) -> None:
    greedy, modest = someone(shared), someone(shared)
    file = upload(greedy, training_lines(9))
    over = threading.Event()

    def change(_: int) -> None:
        while not over.is_set():
            greedy.files.create(file=("a", b"x"), purpose="vision")

    with ThreadPoolExecutor(60) as many:
        for number in range(60):
            many.submit(change, number)
        took = []
        for _ in range(10):
            began = time.monotonic()
            modest.files.retrieve(file)
            took.append(time.monotonic() - began)
        over.set()
    assert sorted(took)[5] < 2
