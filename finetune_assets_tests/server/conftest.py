"""Jobs that several tests look at, trained once, and builders of what jobs need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import openai
import orjson
import pytest
from openai.types.fine_tuning import FineTuningJob

from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.server.networks import computing_in
from finetune_assets_tests.server_process import ServerProcess

FINAL = ("succeeded", "failed", "cancelled")


def let_go(client: openai.OpenAI, *job_ids: str) -> None:
    """Cancel jobs of which a test has no more use; they may be over already."""
    for job_id in job_ids:
        with suppress(openai.BadRequestError):
            client.fine_tuning.jobs.cancel(job_id)


def training_lines(n: int = 12, question: str = "Is {} fine?", answer: str = "Yes") -> bytes:
    """A file of `n` examples in chat format that all have the same answer."""
    return b"\n".join(
        orjson.dumps(
            {
                "messages": [
                    {"role": "user", "content": question.format(i)},
                    {"role": "assistant", "content": answer},
                ]
            }
        )
        for i in range(n)
    )


def upload(client: openai.OpenAI, content: bytes, name: str = "train.jsonl") -> str:
    """The id of a new training file."""
    return client.files.create(file=(name, content), purpose="fine-tune").id


def wait(client: openai.OpenAI, job_id: str, *statuses: str) -> FineTuningJob:
    """The job, once it is in one of the states (by default: a final one)."""
    deadline = time.monotonic() + PATIENCE_S
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in (statuses or FINAL):
        assert time.monotonic() < deadline, f"still {job.status}"
        assert job.status not in FINAL, f"{job.status}: {job.error}"
        time.sleep(0.05)
    return job


@pytest.fixture
def in_float32() -> Iterator[None]:
    """For tests of arithmetic, where what is compared differs by no more than float32's rounding."""
    with computing_in("float32"):
        yield


@pytest.fixture(scope="session")
def finished(server: ServerProcess) -> FineTuningJob:
    """A job with a validation file that has succeeded: three epochs of 12 steps on the answer Yes."""
    client = server.client()
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini",
        training_file=upload(client, training_lines(12)),
        validation_file=upload(client, training_lines(10, "Is {} good?"), "validation.jsonl"),
        suffix="Says yes!",
        seed=7,
        metadata={"made_for": "the tests"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": "auto", "learning_rate_multiplier": 20}},
        },
    )
    job = wait(client, job.id)
    assert job.status == "succeeded", job.error
    return job


@pytest.fixture(scope="session")
def finished_again(server: ServerProcess, finished: FineTuningJob) -> FineTuningJob:
    """A job that has trained the model of `finished` further, for one epoch of two steps."""
    client = server.client()
    job = client.fine_tuning.jobs.create(
        model=finished.fine_tuned_model or "",
        training_file=upload(client, training_lines(10)),
        hyperparameters={"n_epochs": 1, "batch_size": 5},
    )
    job = wait(client, job.id)
    assert job.status == "succeeded", job.error
    return job
