"""A server that is killed at any moment: what it has acknowledged is still there, and what it had begun it finishes.

Each round starts the server on the same folder, waits for a moment of one kind, and kills it with SIGKILL a random
while later. `CRASH_KILLS=50` makes as many rounds instead of the first few, over all kinds of moments.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import openai
import orjson
import pytest
from openai.types.fine_tuning import FineTuningJob

from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.conftest import FINAL, training_lines, wait
from finetune_assets_tests.server_process import ServerProcess

KILLS = int(os.environ.get("CRASH_KILLS", "2"))
LONGEST_WAIT_S = 0.4
"""The kill comes up to this long after the moment."""
BATCH_LINES = 40


@dataclass
class Ledger:
    """What a server has acknowledged, and so must never lose."""

    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the content by file id."""
    jobs: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)

    def upload(self, client: openai.OpenAI, content: bytes, purpose: str = "fine-tune") -> str:
        """Store a file, and note it once the server has said that it is stored."""
        file = client.files.create(file=("a.jsonl", content), purpose=purpose)  # pyright: ignore[reportArgumentType]
        self.files[file.id] = hashlib.sha256(content).hexdigest()
        return file.id

    def train(self, client: openai.OpenAI) -> str:
        """Create a job of 72 steps, with a checkpoint at every third; all such jobs make the same model."""
        job = client.fine_tuning.jobs.create(
            model="tiny-text",
            training_file=self.upload(client, training_lines(12)),
            hyperparameters={"n_epochs": 24, "batch_size": 4, "learning_rate_multiplier": 5},
            seed=7,
        )
        self.jobs.append(job.id)
        return job.id


def uploading(client: openai.OpenAI, ledger: Ledger) -> None:
    """Files of some megabytes come in one after the other."""

    def upload() -> None:
        with suppress(openai.APIConnectionError):
            while True:
                ledger.upload(client, random.randbytes(4 << 20))

    threading.Thread(target=upload, daemon=True).start()
    time.sleep(0.1)


def validating(client: openai.OpenAI, ledger: Ledger) -> None:
    """A job was just created."""
    ledger.train(client)


def training(client: openai.OpenAI, ledger: Ledger) -> None:
    """A job has made a step since the server runs."""
    await_another(client, ledger, "Step ")


def checkpointing(client: openai.OpenAI, ledger: Ledger) -> None:
    """A job has published a checkpoint since the server runs."""
    await_another(client, ledger, "Checkpoint ")


def serving(client: openai.OpenAI, ledger: Ledger) -> None:
    """A batch of conversations has had another answer; as the oldest come first, it may be an earlier one's."""
    body = {"model": "tiny-text", "messages": [{"role": "user", "content": "Go on"}], "max_tokens": 20}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = b"\n".join(orjson.dumps(line | {"custom_id": str(i)}) for i in range(BATCH_LINES))
    before = n_answered(client, ledger)
    file = ledger.upload(client, lines, "batch")
    batch = client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
    ledger.batches.append(batch.id)
    wait_until(lambda: n_answered(client, ledger) > before)


MOMENTS: list[Callable[[openai.OpenAI, Ledger], None]] = [checkpointing, uploading, serving, training, validating]


@pytest.mark.timeout(2 * PATIENCE_S + 60 * KILLS)
def test_kills_lose_nothing_and_change_no_model(home: Path) -> None:
    ledger, dice = Ledger(), random.Random(5)
    for kill in range(KILLS):
        with ServerProcess(home) as server:
            client = server.client()
            assert_nothing_is_lost(client, ledger)
            MOMENTS[kill % len(MOMENTS)](client, ledger)
            time.sleep(dice.uniform(0, LONGEST_WAIT_S))
            server.kill()
    with ServerProcess(home) as server:
        client = server.client()
        assert_nothing_is_lost(client, ledger)
        jobs = [wait(client, job_id) for job_id in ledger.jobs]
        assert [(job.status, job.error) for job in jobs] == [("succeeded", None)] * len(jobs)
        assert_no_model_is_broken(client, jobs)
        assert_batches_answer_every_line_once(client, ledger)
        undisturbed = wait(client, ledger.train(client))
        assert "the server was" not in story(client, undisturbed.id)
        assert any("the server was" in story(client, job.id) for job in jobs)
        for job in jobs:
            assert steps(client, job) == steps(client, undisturbed)
            assert answer(client, job.fine_tuned_model or "") == answer(client, undisturbed.fine_tuned_model or "")


def await_another(client: openai.OpenAI, ledger: Ledger, beginning: str) -> None:
    """Wait for a new event that begins so, of a job that is under way already or is created for it."""

    def newest() -> set[str]:
        pages = [client.fine_tuning.jobs.list_events(job_id, limit=10).data for job_id in ledger.jobs]
        return {event.id for page in pages for event in page if event.message.startswith(beginning)}

    def came() -> bool:
        if all(client.fine_tuning.jobs.retrieve(job_id).status in FINAL for job_id in ledger.jobs):
            ledger.train(client)
        return bool(newest() - before)

    before = newest()
    wait_until(came)


def assert_nothing_is_lost(client: openai.OpenAI, ledger: Ledger) -> None:
    for file_id, digest in ledger.files.items():
        assert hashlib.sha256(client.files.content(file_id).read()).hexdigest() == digest
    assert set(ledger.jobs) <= {job.id for job in client.fine_tuning.jobs.list(limit=1000)}
    assert set(ledger.batches) <= {batch.id for batch in client.batches.list(limit=100)}


def assert_no_model_is_broken(client: openai.OpenAI, jobs: list[FineTuningJob]) -> None:
    """Ask all models and checkpoints: one whose weights are not whole answers with an error."""
    held = [client.fine_tuning.jobs.checkpoints.list(job.id) for job in jobs]
    checkpoints = [checkpoint.fine_tuned_model_checkpoint for page in held for checkpoint in page]
    for model in [*(model.id for model in client.models.list()), *checkpoints]:
        if "tiny-text" in model:
            answer(client, model)


def assert_batches_answer_every_line_once(client: openai.OpenAI, ledger: Ledger) -> None:
    for batch_id in ledger.batches:
        wait_until(lambda of=batch_id: client.batches.retrieve(of).status == "completed")
        batch = client.batches.retrieve(batch_id)
        lines = client.files.content(batch.output_file_id or "").read().splitlines()
        assert sorted(int(orjson.loads(line)["custom_id"]) for line in lines) == list(range(BATCH_LINES))


def n_answered(client: openai.OpenAI, ledger: Ledger) -> int:
    """How many lines of all batches have been answered."""
    counts = [client.batches.retrieve(batch_id).request_counts for batch_id in ledger.batches]
    return sum(count.completed for count in counts if count)


def answer(client: openai.OpenAI, model: str) -> tuple[str, float]:
    """The first token of a greedy answer with its log-probability, which is as exact as the weights are equal.

    The second answer: both models' come after the same beginning in the cache, so that all sums have one order.
    """
    _first, second = (
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Is 3 fine?"}],
            max_tokens=1,
            temperature=0,
            logprobs=True,
        ).choices[0]
        for _ in range(2)
    )
    logprobs = second.logprobs
    assert logprobs is not None
    [token] = logprobs.content or []
    return token.token, token.logprob


def steps(client: openai.OpenAI, job: FineTuningJob) -> str:
    """The result file: the loss of every step, once."""
    return client.files.content(job.result_files[0]).text


def story(client: openai.OpenAI, job_id: str) -> str:
    """All messages of a job, in small letters."""
    return "\n".join(event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=1000)).lower()
