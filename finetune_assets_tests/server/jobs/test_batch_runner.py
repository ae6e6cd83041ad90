"""Batches are worked on whatever the machine lacked when they were to be taken up, begun or answered."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from finetune_assets.server import base_models
from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.decision_answering import DecisionMaker
from finetune_assets.server.api.metrics import Metrics
from finetune_assets.server.api.places import Places
from finetune_assets.server.database.batches import BatchRequest
from finetune_assets.server.database.schema import Batch
from finetune_assets.server.jobs import batch_runner
from finetune_assets.server.jobs.batch_runner import BatchRunner
from finetune_assets.server.keys import Keys
from finetune_assets.server.services import Services
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.server.shortages import held, impatient

__all__ = ["impatient"]
pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what waits for the machine try again soon."""
    monkeypatch.setattr(batch_runner, "REST_SECONDS", 0.05)


@pytest.fixture
def served(tmp_path: Path) -> Services:
    return Services(tmp_path)


def add_batch(served: Services, n: int = 3) -> str:
    """A batch whose lines ask a model that is not there, so that each is refused without one in memory."""
    body = {"model": "not-here", "messages": [{"role": "user", "content": "x"}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    content = b"\n".join(orjson.dumps(line | {"custom_id": str(number)}) for number in range(n))
    file = served.files.add(io.BytesIO(content), filename="a", purpose="batch")
    asked = BatchRequest(
        endpoint="/v1/chat/completions", input_file_id=file.id, completion_window="24h", metadata=None,
        output_expires_in=None,
    )  # fmt: skip
    return served.batches.create(asked).id


@asynccontextmanager
async def running(served: Services) -> AsyncIterator[BatchRunner]:
    answering = Completions(served, Metrics())
    runner = BatchRunner(served, answering, DecisionMaker(answering), Keys(served.home, "sk-test"), Places())
    runner.start()
    yield runner
    await runner.stop()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reached():
            await asyncio.sleep(0.01)


async def completed(served: Services, batch_id: str) -> Batch:
    await until(lambda: status(served, batch_id) not in ("validating", "in_progress", "finalizing"))
    batch = served.batches.get(batch_id)
    assert batch is not None
    assert (batch.status, batch.failed) == ("completed", 3)
    return batch


def status(served: Services, batch_id: str) -> str:
    batch = served.batches.get(batch_id)
    return batch.status if batch else "gone"


def test_a_start_while_another_process_holds_the_database_only_delays_batches(
    served: Services, caplog: pytest.LogCaptureFixture
) -> None:
    batch = add_batch(served)

    async def start() -> None:
        with held(served.home):
            running_ = running(served)
            await running_.__aenter__()
            await until(lambda: "No batch is taken up" in caplog.text)
        await completed(served, batch)
        await running_.__aexit__(None, None, None)

    asyncio.run(start())


def test_a_batch_that_cannot_be_claimed_is_claimed_later(served: Services, caplog: pytest.LogCaptureFixture) -> None:
    async def come_in_meanwhile() -> None:
        async with running(served) as runner:
            await completed(served, add_batch(served))
            batch = add_batch(served)
            with held(served.home):
                runner.wake()
                await until(lambda: "No batch is taken up" in caplog.text)
            await completed(served, batch)

    asyncio.run(come_in_meanwhile())


def test_lines_that_meet_a_shortage_wait_for_its_end_however_often(
    served: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch, real = add_batch(served), base_models.resolve

    def want_of_memory(*_args: object) -> None:
        raise MemoryError

    async def answer() -> None:
        monkeypatch.setattr(base_models, "resolve", want_of_memory)
        async with running(served):
            tries = batch_runner.MAX_TRIES + 1
            await until(lambda: caplog.text.count(f"The batch {batch} waits: Memory ran out") >= tries)
            assert status(served, batch) == "in_progress"
            monkeypatch.setattr(base_models, "resolve", real)
            await completed(served, batch)

    asyncio.run(answer())


def test_an_error_that_nobody_foresaw_does_not_end_the_work_on_batches(
    served: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch, real = add_batch(served), served.batches.open

    def broken(*_args: object) -> None:
        raise RuntimeError("not foreseen")

    async def go_on() -> None:
        monkeypatch.setattr(served.batches, "open", broken)
        async with running(served):
            await until(lambda: "not foreseen" in caplog.text)
            monkeypatch.setattr(served.batches, "open", real)
            await completed(served, batch)

    asyncio.run(go_on())


@pytest.mark.parametrize("steps", range(6))
def test_a_runner_that_is_woken_while_it_is_stopped_stops(served: Services, steps: int) -> None:
    """So many steps of the event loop are between the two."""

    async def stop() -> None:
        async with running(served) as runner:
            await asyncio.sleep(0.1)  # by then it most likely waits to be woken
            runner.wake()
            for _ in range(steps):
                await asyncio.sleep(0)
            _, left = await asyncio.wait([asyncio.create_task(runner.stop())], timeout=PATIENCE_S)
            assert not left

    asyncio.run(stop())
