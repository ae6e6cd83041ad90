"""Real servers behind the router, killed and ended while they answer: no answer is lost, and none is given twice.

They run with `FINETUNE_ASSETS_LONG_TESTS=1`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import orjson
import pytest

from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.cluster import Cluster, cluster
from finetune_assets_tests.server.conftest import training_lines, upload, wait
from finetune_assets_tests.server.routing.scripted_server import routed
from finetune_assets_tests.server_process import KEY

pytestmark = long
N = 500


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), postgres, lease_seconds=8.0) as made:
        yield made


@pytest.fixture(scope="module")
def models(shared: Cluster) -> list[str]:
    """Four fine-tuned models that say different things."""
    with shared.server("trained") as server:
        worker, client = shared.worker("worker"), server.client()
        asked = [
            client.fine_tuning.jobs.create(
                model="tiny-text",
                training_file=upload(client, training_lines(12, answer=answer)),
                hyperparameters={"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 20},
            )
            for answer in ("Yes", "No", "Maybe", "Never")
        ]
        done = [wait(client, job.id) for job in asked]
        worker.stop()
    return [job.fine_tuned_model or "" for job in done]


def ask(client: openai.OpenAI, model: str, number: int, **more: Any) -> str:
    messages: Any = [{"role": "user", "content": f"Is {number} fine?"}]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=4, temperature=0, **more)
    return answer.choices[0].message.content or ""


def through(url: str) -> openai.OpenAI:
    """The SDK, which repeats nothing: what is lost is lost."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S)


@pytest.mark.timeout(4 * PATIENCE_S)
def test_of_500_questions_none_is_lost_when_a_server_is_killed_among_them(shared: Cluster, models: list[str]) -> None:
    one, other = shared.server("one"), shared.server("other")
    with routed(one.base_url, other.base_url) as url, ThreadPoolExecutor(16) as pool:
        direct, client = other.client(), through(url)
        expected = list(pool.map(lambda number: ask(direct, models[number % 4], number), range(N)))
        asking = [pool.submit(ask, client, models[number % 4], number) for number in range(N)]
        wait_until(lambda: sum(future.done() for future in asking) > N // 4)
        one.kill()
        assert [future.result() for future in asking] == expected
    other.stop()


@pytest.mark.timeout(4 * PATIENCE_S)
def test_a_batch_of_500_lines_whose_server_is_killed_has_each_answer_once(shared: Cluster, models: list[str]) -> None:
    servers = [shared.server("one"), shared.server("other")]
    lines = [
        {"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": models[number % 4], "max_tokens": 4,
                  "messages": [{"role": "user", "content": f"Is {number} fine?"}]}}
        for number in range(N)
    ]  # fmt: skip
    with routed(*(server.base_url for server in servers)) as url:
        client = through(url)
        content = b"\n".join(map(orjson.dumps, lines))
        file = client.files.create(file=("lines.jsonl", content), purpose="batch").id
        batch = client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")

        def answered() -> int:
            counts = client.batches.retrieve(batch.id).request_counts
            return counts.completed if counts else 0

        wait_until(lambda: answered() > 20)
        next(server for server in servers if (server.home / "batches" / batch.id).exists()).kill()
        wait_until(lambda: client.batches.retrieve(batch.id).status in ("completed", "failed"))
        done = client.batches.retrieve(batch.id)
        assert (done.status, done.error_file_id) == ("completed", None)
        output = client.files.content(done.output_file_id or "").read().splitlines()
    assert Counter(orjson.loads(line)["custom_id"] for line in output) == Counter(line["custom_id"] for line in lines)
    assert all(orjson.loads(line)["response"]["status_code"] == 200 for line in output)
    for server in servers:
        server.kill()


@pytest.mark.timeout(4 * PATIENCE_S)
def test_a_server_that_is_ended_answers_what_it_has_and_gets_no_more(shared: Cluster, models: list[str]) -> None:
    one, other = shared.server("one", drain=60.0), shared.server("other")

    def stream(client: openai.OpenAI, number: int) -> str:
        messages: Any = [{"role": "user", "content": f"Is {number} fine?"}]
        chunks = list(
            client.chat.completions.create(
                model=models[number % 4], messages=messages, max_tokens=100, temperature=0, stream=True,
                logit_bias={"2": -100},
            )
        )  # fmt: skip
        assert chunks[-1].choices[0].finish_reason == "length"
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with routed(one.base_url, other.base_url) as url, ThreadPoolExecutor(16) as pool:
        client = through(url)
        asking = [pool.submit(stream, client, number) for number in range(60)]
        wait_until(lambda: sum(future.done() for future in asking) > 10)
        one.process.terminate()
        assert not all(future.done() for future in asking), "it is ended while there is more to answer"
        assert one.process.wait(PATIENCE_S) == 0
        assert all(future.result() for future in asking)
    other.stop()
