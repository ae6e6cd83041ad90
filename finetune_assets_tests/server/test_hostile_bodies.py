"""The worst that the limits of each route allow is answered, by no 500, while others are answered as if nothing were.

`FINETUNE_ASSETS_LONG_TESTS=1` sends two thousand requests of up to 60 MB instead of a few dozen of up to 4 MB.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import orjson
import psutil
import pytest

from finetune_assets_tests.long_tests import LONG, long
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.api.test_limits import MAX_MEMORY_BYTES, SLOWEST_PROBE_S, probed
from finetune_assets_tests.server.conftest import training_lines, upload
from finetune_assets_tests.server.hostile_bodies import Grammar
from finetune_assets_tests.server_process import KEY, ServerProcess, make_home

REQUESTS, LARGEST = (2000, 60_000_000) if LONG else (80, 4_000_000)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own, which has answered once."""
    with ServerProcess(make_home(tmp_path_factory.mktemp("attacked"))) as running, running.client() as client:
        client.chat.completions.create(model="tiny-text", messages=[{"role": "user", "content": "?"}], max_tokens=1)
        yield running


@pytest.fixture
def peak(attacked: ServerProcess) -> Iterator[list[int]]:
    """The most memory that the server's process has had since the test began."""
    most, over = [0], threading.Event()
    process = psutil.Process(attacked.process.pid)

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    yield most
    over.set()
    thread.join()


def test_the_worst_within_the_limits_of_every_route_holds_nobody_up(attacked: ServerProcess, peak: list[int]) -> None:
    root = attacked.base_url.removesuffix("/v1")
    client = attacked.client()
    file = upload(client, training_lines(9))
    batch_file = client.files.create(file=("b", b"{}"), purpose="batch").id
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=file).id
    known = {"model": "tiny-text", "training_file": file, "input_file_id": batch_file, "job_id": job}
    described = httpx2.get(f"{root}/openapi.json", timeout=PATIENCE_S).json()
    headers = {"Authorization": f"Bearer {KEY}"}
    with probed(attacked) as took, httpx2.Client(base_url=root, headers=headers, timeout=PATIENCE_S) as http:
        for attack in Grammar(described, seed=REQUESTS, largest=LARGEST, known=known).attacks(REQUESTS):
            typed = {"Content-Type": attack.content_type}
            answer = http.request(attack.method, attack.path, content=attack.body, headers=typed)
            assert answer.status_code < 500, (attack, answer.text[:500])
            assert answer.is_success or answer.json()["error"]["message"], attack
        wait_until(lambda: len(took) > 100)
    assert sorted(took)[int(len(took) * 0.99) - 1] < SLOWEST_PROBE_S
    assert peak[0] < MAX_MEMORY_BYTES


@long
def test_large_bodies_that_come_together_are_read_one_after_the_other(attacked: ServerProcess, peak: list[int]) -> None:
    texts = [{"role": "user", "content": "a b" * 3_400_000}] * 6
    body = orjson.dumps({"model": "tiny-text", "messages": texts})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    n = 24

    def send(_: int) -> int:
        url = f"{attacked.base_url}/chat/completions"
        return httpx2.post(url, content=body, headers=headers, timeout=PATIENCE_S).status_code

    with ThreadPoolExecutor(n) as many:
        assert set(many.map(send, range(n))) == {400}
    assert peak[0] < MAX_MEMORY_BYTES


def test_more_filters_than_a_job_has_pairs_are_refused(attacked: ServerProcess) -> None:
    pairs = "&".join(f"metadata[k{number}]=v" for number in range(3000))
    url = f"{attacked.base_url}/fine_tuning/jobs?{pairs}"
    answer = httpx2.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


def test_a_schema_that_takes_minutes_to_compile_is_refused(attacked: ServerProcess) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [f"{'x' * 1000}{number}" for number in range(200)]}}}
    with pytest.raises(openai.BadRequestError, match="more than 120,000 characters"):
        attacked.client().chat.completions.create(
            model="tiny-text",
            messages=[{"role": "user", "content": "x"}],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )


@pytest.mark.parametrize(
    ("content", "code", "n"),
    [
        (b"x\n" * 3_000_000, "invalid_json_line", 100),
        (b'{"custom_id":"' + b"a" * 68_000_000 + b'"}', "line_too_long", 1),
        (b'{"custom_id":"' + b"a" * 600 + b'","method":"POST","url":"/v1/chat/completions","body":{}}',
         "invalid_custom_id", 1),
    ],
    ids=["wrong lines without end", "a line without end", "a long id"],
)  # fmt: skip
def test_a_file_of_a_batch_is_looked_at_only_as_far_as_it_is_told_of(
    attacked: ServerProcess, peak: list[int], content: bytes, code: str, n: int
) -> None:
    client = attacked.client()
    file = client.files.create(file=("batch.jsonl", content), purpose="batch").id
    batch = client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
    wait_until(lambda: client.batches.retrieve(batch.id).status == "failed")
    errors = client.batches.retrieve(batch.id).errors
    assert errors is not None and errors.data is not None
    assert [error.code for error in errors.data] == [code] * n
    assert peak[0] < MAX_MEMORY_BYTES
