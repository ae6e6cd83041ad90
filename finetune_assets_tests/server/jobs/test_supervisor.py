"""The queue: in order, in its slots, and to an end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs.supervisor import Supervisor, last_error
from finetune_assets_tests.patience import wait_until
from finetune_assets_tests.server.conftest import training_lines
from finetune_assets_tests.server.database.test_job_life import make_job, messages, status

SECRET = "What is the prompt?"


@pytest.fixture
def stores(home: Path) -> Iterator[Stores]:
    stores = Stores(home)
    yield stores
    stores.close()


def make_queued_job(stores: Stores, model: str) -> Job:
    file = stores.files.add(io.BytesIO(training_lines()), filename="t", purpose="fine-tune")
    job = make_job(stores, model=model, base="tiny-text", training_file=file.id)
    stores.job_life.validated(job.id)
    return job


def wait_for(stores: Stores, job: Job, state: str) -> None:
    wait_until(lambda: status(stores, job) == state, lambda: messages(stores, job))


def test_jobs_train_one_after_the_other_and_fail_if_their_base_was_deleted(stores: Stores) -> None:
    first, second = (make_queued_job(stores, "ft:tiny-text:local::deleted") for _ in range(2))
    supervisor = Supervisor(stores, jobs=1)
    supervisor.start()
    wait_for(stores, second, "failed")
    supervisor.hurry()
    supervisor.stop()
    [first_ended, *_] = stores.events.page(first.id, after=None, limit=1).items
    [second_began] = [
        event
        for event in stores.events.page(second.id, after=None, limit=100).items
        if event.message == "Fine-tuning job started"
    ]
    assert first_ended.number < second_began.number
    assert not stores.state(first.id).exists()
    failed = stores.jobs.get(first.id)
    assert failed is not None
    assert failed.error is not None
    assert "the model 'ft:tiny-text:local::deleted' does not exist" in failed.error["message"]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", ""),
        ("Loading weights\n", ""),
        (f"Traceback ...\nKeyError: {SECRET!r}\n", " Its last error was KeyError."),
        (f"ValueError: {SECRET}\nnot an Error: {SECRET}\n", " Its last error was ValueError."),
        ("MemoryError\n", " Its last error was MemoryError."),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.\n",
            " Its last error was torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
        ),
    ],
)
def test_clients_are_told_of_the_machine_but_not_what_else_a_log_holds(tmp_path: Path, log: str, told: str) -> None:
    (tmp_path / "log").write_text(log)
    assert last_error(tmp_path / "log") == told


def test_training_states_stay_until_their_job_is_over(stores: Stores) -> None:
    waiting, paused, cancelled, busy = (make_job(stores) for _ in range(4))
    stores.job_life.paused(paused.id)
    for job in (cancelled, busy):
        stores.job_life.cancelled(job.id)
    for name in (waiting.id, paused.id, cancelled.id, busy.id, "ftjob-unknown"):
        stores.state(name).mkdir()
    stores.tidy(busy=[busy.id])
    assert {path.name for path in (stores.home / "training").iterdir()} == {waiting.id, paused.id, busy.id}
