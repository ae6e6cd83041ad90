"""A job's states, and the events that tell of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_assets.server.database.job_life import MAX_INTERRUPTIONS, JobStateError
from finetune_assets.server.database.jobs import JobRequest
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path)


def make_job(stores: Stores, **overrides: object) -> Job:
    request = {
        "model": "gpt-4o-mini",
        "base": "gpt-4o-mini",
        "training_file": "file-t",
        "validation_file": None,
        "suffix": None,
        "seed": 1,
        "hyperparameters": {"n_epochs": "auto"},
        "metadata": None,
    }
    return stores.jobs.create(JobRequest(**(request | overrides)))  # pyright: ignore[reportArgumentType]


def messages(stores: Stores, job: Job) -> list[str]:
    """All messages, the oldest first."""
    return [event.message for event in stores.events.page(job.id, after=None, limit=1000).items][::-1]


def status(stores: Stores, job: Job) -> str:
    found = stores.jobs.get(job.id)
    assert found is not None
    return found.status


def test_the_way_to_success_is_told_in_the_words_of_openai(stores: Stores) -> None:
    job = make_job(stores, validation_file="file-v")
    stores.job_life.validated(job.id)
    stores.job_life.started(job.id)
    metrics = {"step": 1, "total_steps": 2, "train_loss": 0.734, "valid_loss": 1.456}
    stores.job_life.stepped(job.id, metrics, {"n_epochs": 1}, estimated_finish=123)
    metrics = {"step": 2, "total_steps": 2, "train_loss": 0.5, "valid_loss": 1.0, "full_valid_loss": 0.4}
    stores.job_life.stepped(job.id, metrics, {"n_epochs": 1}, estimated_finish=124)
    stores.job_life.checkpointed(job.id, metrics, f"{job.id}/checkpoint-2")
    stores.job_life.succeeded(job.id, path=f"{job.id}/model", result_file="file-r", trained_tokens=99)
    assert messages(stores, job) == [
        f"Created fine-tuning job: {job.id}",
        "Validating training file: file-t and validation file: file-v",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "Step 1/2: training loss=0.73, validation loss=1.46",
        "Step 2/2: training loss=0.50, validation loss=1.00, full validation loss=0.40",
        f"Checkpoint created at step 2 with Snapshot ID: {job.tuned_model}:ckpt-step-2",
        f"New fine-tuned model created: {job.tuned_model}",
        "The job has successfully completed",
    ]


def test_a_model_is_named_after_what_the_client_asked_for(stores: Stores) -> None:
    assert make_job(stores).tuned_model.startswith("ft:gpt-4o-mini:local::")
    named = make_job(stores, base="org/model", suffix="My model: v2/ü")
    assert named.tuned_model.startswith("ft:org/model:local:My-model-v2-:")


@pytest.mark.parametrize("step", ["validated", "started", "put_back"])
def test_a_cancelled_job_goes_no_further(stores: Stores, step: str) -> None:
    job = make_job(stores)
    stores.job_life.cancelled(job.id)
    with pytest.raises(JobStateError, match="is cancelled"):
        getattr(stores.job_life, step)(job.id)
    assert status(stores, job) == "cancelled"


def test_a_job_that_is_over_cannot_be_cancelled_or_failed(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.failed(job.id, "invalid_training_file", "line 3: no answer", "training_file")
    with pytest.raises(JobStateError):
        stores.job_life.cancelled(job.id)
    with pytest.raises(JobStateError):
        stores.job_life.failed(job.id, "server_error", "again")
    failed = stores.jobs.get(job.id)
    assert failed is not None
    assert failed.error == {
        "code": "invalid_training_file",
        "message": "line 3: no answer",
        "param": "training_file",
    }
    assert failed.finished_at is not None


def test_jobs_are_taken_in_the_order_of_their_creation(stores: Stores) -> None:
    first, second = make_job(stores), make_job(stores)
    for job in (second, first):
        stores.job_life.validated(job.id)
    assert stores.jobs.oldest("validating_files") is None
    oldest = stores.jobs.oldest("queued")
    assert oldest is not None
    assert oldest.id == first.id


def test_a_restart_puts_a_running_job_back_in_the_queue_and_says_so(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.validated(job.id)
    stores.job_life.started(job.id)
    stores.job_life.recover()
    assert status(stores, job) == "queued"
    assert "back in the queue" in messages(stores, job)[-1]


def test_jobs_that_wait_keep_their_state_over_a_restart(stores: Stores) -> None:
    validating, queued = make_job(stores), make_job(stores)
    stores.job_life.validated(queued.id)
    for _ in range(MAX_INTERRUPTIONS + 1):
        stores.job_life.recover()
    assert (status(stores, validating), status(stores, queued)) == ("validating_files", "queued")
    assert "still in the queue" in messages(stores, queued)[-1]


def test_a_job_that_was_interrupted_too_often_fails_with_the_reason(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.validated(job.id)
    for _ in range(MAX_INTERRUPTIONS):
        stores.job_life.started(job.id)
        stores.job_life.recover()
    failed = stores.jobs.get(job.id)
    assert failed is not None
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "interrupted"
    assert "interrupted 3 times" in failed.error["message"]


def test_a_stop_in_good_order_is_no_interruption(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.validated(job.id)
    for _ in range(MAX_INTERRUPTIONS + 1):
        stores.job_life.started(job.id)
        stores.job_life.put_back(job.id)
        stores.job_life.recover()
    assert status(stores, job) == "queued"


def test_a_step_trained_again_counts_as_it_was_last(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.validated(job.id)
    stores.job_life.started(job.id)
    for step, loss in [(1, 3.0), (2, 2.0), (1, 3.5)]:
        metrics = {"step": step, "total_steps": 2, "train_loss": loss}
        stores.job_life.stepped(job.id, metrics, {}, estimated_finish=0)
    assert [(m["step"], m["train_loss"]) for m in stores.events.metrics(job.id)] == [(1, 3.5), (2, 2.0)]


def test_metadata_is_matched_pair_by_pair_whatever_its_keys(stores: Stores) -> None:
    plain = make_job(stores)
    odd = make_job(stores, metadata={'a".b[0] $': "1", "region": "mono"})
    other = make_job(stores, metadata={"region": "poly"})

    def found(metadata: dict[str, str] | None) -> list[str]:
        return [job.id for job in stores.jobs.page(metadata=metadata, after=None, limit=10).items]

    assert found({'a".b[0] $': "1"}) == [odd.id]
    assert found({"region": "mono", 'a".b[0] $': "1"}) == [odd.id]
    assert found({"region": "poly"}) == [other.id]
    assert found({"region": "1"}) == []
    assert found(None) == [plain.id]
    assert found({}) == [other.id, odd.id, plain.id]
