"""Who works on a job: one at a time, for as long as he is heard of, and nobody after him in his name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from finetune_assets.server.database.batches import BatchRequest, BatchStateError
from finetune_assets.server.database.job_life import ClaimLostError
from finetune_assets.server.database.jobs import PAUSED, QUEUED, RUNNING, VALIDATING
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets_tests.server.database.conftest import Change
from finetune_assets_tests.server.database.test_job_life import make_job, messages, status

LONG = 1000.0
METRICS = {"step": 1, "total_steps": 2, "train_loss": 1.0}


@pytest.fixture
def job(stores: Stores) -> Job:
    """A job in the queue."""
    job = make_job(stores)
    stores.job_life.validated(job.id)
    return job


def claimed(stores: Stores, job: Job, worker: str = "w", seconds: float = LONG) -> int:
    claim = stores.jobs.claim(job.id, QUEUED, worker, seconds)
    assert claim is not None
    return claim


def test_of_many_who_come_together_each_gets_another_job_and_nobody_none(stores: Stores) -> None:
    jobs = [make_job(stores) for _ in range(6)]
    for job in jobs:
        stores.job_life.validated(job.id)

    def take(worker: int) -> list[str]:
        wanted = [job.id for job in jobs]
        return [job_id for job_id in wanted if stores.jobs.claim(job_id, QUEUED, str(worker), LONG) is not None]

    with ThreadPoolExecutor(8) as workers:
        taken = [job_id for jobs_of_one in workers.map(take, range(8)) for job_id in jobs_of_one]
    assert sorted(taken) == sorted(job.id for job in jobs)
    assert stores.jobs.oldest(QUEUED) == []


def test_a_job_can_be_looked_for_alone_and_all_that_wait_are_known(stores: Stores) -> None:
    first, second, third = (make_job(stores) for _ in range(3))
    stores.job_life.validated(third.id)
    assert [job.id for job in stores.jobs.oldest(VALIDATING)] == [first.id]
    assert [job.id for job in stores.jobs.oldest(VALIDATING, only=second.id)] == [second.id]
    assert stores.jobs.oldest(QUEUED, only=second.id) == []
    assert [job.id for job in stores.jobs.waiting()] == [first.id, second.id, third.id]
    claim = claimed(stores, third)
    assert [(job.id, job.claim) for job in stores.jobs.waiting()] == [(first.id, 0), (second.id, 0)]
    stores.jobs.release(third.id, claim)
    assert [(job.id, job.claim) for job in stores.jobs.waiting()][2:] == [(third.id, claim)]
    stores.job_life.cancelled(second.id)
    assert [job.id for job in stores.jobs.waiting()] == [first.id, third.id]


def test_a_job_is_offered_again_when_its_lease_is_over(stores: Stores, job: Job) -> None:
    first = claimed(stores, job)
    assert stores.jobs.oldest(QUEUED) == []
    assert stores.jobs.renew(job.id, first, -1)
    [offered] = stores.jobs.oldest(QUEUED)
    assert offered.id == job.id
    second = claimed(stores, job, "other")
    assert second > first
    assert not stores.jobs.renew(job.id, first, LONG)


def test_a_job_in_training_whose_worker_is_not_heard_of_goes_back_to_the_queue(stores: Stores, job: Job) -> None:
    claim = claimed(stores, job, "far:7")
    stores.job_life.of(claim).started(job.id)
    stores.job_life.recover_lost(besides=[])
    assert status(stores, job) == RUNNING
    stores.jobs.renew(job.id, claim, -1)
    stores.job_life.recover_lost(besides=[job.id])
    assert status(stores, job) == RUNNING
    stores.job_life.recover_lost(besides=[])
    assert status(stores, job) == QUEUED
    assert messages(stores, job)[-1].startswith("The worker far:7 was not heard of any more; the job is back in the")


def test_no_step_of_a_worker_counts_once_his_job_is_somebody_elses(stores: Stores, job: Job) -> None:
    stale = stores.job_life.of(claimed(stores, job))
    stale.started(job.id)
    stores.jobs.renew(job.id, 1, -1)
    stores.job_life.recover_lost(besides=[])
    fresh = stores.job_life.of(claimed(stores, job))
    fresh.started(job.id)
    before = messages(stores, job)
    for step in (
        lambda: stale.started(job.id),
        lambda: stale.stepped(job.id, METRICS, {}, None),
        lambda: stale.stepped_last(job.id, METRICS),
        lambda: stale.saved(job.id, "training/x"),
        lambda: stale.went_back(job.id, 0),
        lambda: stale.checkpointed(job.id, METRICS, "x"),
        lambda: stale.succeeded(job.id, path="x", results=b"stale", trained_tokens=1),
        lambda: stale.failed(job.id, "x", "x"),
        lambda: stale.interrupted(job.id, "x", "x", 9),
        lambda: stale.waits(job.id, "x"),
        lambda: stale.put_back(job.id),
        lambda: stale.note(job.id, "x"),
    ):
        with pytest.raises(ClaimLostError, match="taken up by another worker"):
            step()
    assert messages(stores, job) == before
    assert stores.files.page(purpose=None, after=None, limit=10, ascending=True).items == []
    fresh.succeeded(job.id, path="mine", results=b"fresh", trained_tokens=1)
    found = stores.models.get(job.tuned_model)
    assert found is not None and found.path == "mine"


def test_a_paused_job_that_is_resumed_waits_for_the_process_that_saves_it(stores: Stores, job: Job) -> None:
    claim = claimed(stores, job)
    stores.job_life.of(claim).started(job.id)
    stores.job_life.paused(job.id)
    assert stores.jobs.at_work(QUEUED) == {"": 1}
    stores.job_life.resumed(job.id)
    assert stores.jobs.oldest(QUEUED) == []
    stores.jobs.release(job.id, claim)
    assert [free.id for free in stores.jobs.oldest(QUEUED)] == [job.id]


def test_a_job_paused_by_a_worker_that_vanished_can_be_taken_up(stores: Stores, job: Job) -> None:
    claim = claimed(stores, job)
    stores.job_life.of(claim).started(job.id)
    stores.job_life.paused(job.id)
    stores.jobs.renew(job.id, claim, -1)
    stores.job_life.recover_lost(besides=[])
    assert status(stores, job) == PAUSED
    with pytest.raises(ClaimLostError):
        stores.job_life.of(claim).checkpointed(job.id, METRICS, "x")


def test_a_batch_is_worked_on_by_one_server(stores: Stores, change: Change) -> None:
    asked = BatchRequest(
        endpoint="/v1/chat/completions", input_file_id="file-x", completion_window="24h", metadata=None,
        output_expires_in=None,
    )  # fmt: skip
    batch = stores.batches.create(asked)
    first = stores.batches.claim(batch.id, LONG)
    assert first is not None
    assert stores.batches.claim(batch.id, LONG) is None
    assert stores.batches.open() == []
    assert [mine.id for mine in stores.batches.open([batch.id])] == [batch.id]
    change("UPDATE batches SET lease_until = 1")
    second = stores.batches.claim(batch.id, LONG)
    assert second is not None
    with pytest.raises(BatchStateError, match="taken up by another server"):
        stores.batches.of(first).started(batch.id, model=None, total=1)
    stores.batches.of(second).started(batch.id, model=None, total=1)
    stores.batches.renew({batch.id: first}, 0)
    assert stores.batches.open() == []
    stores.batches.renew({batch.id: second}, 0)
    assert [free.id for free in stores.batches.open()] == [batch.id]
