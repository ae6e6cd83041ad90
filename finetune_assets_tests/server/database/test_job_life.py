"""A job's states, and the events that tell of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from finetune_assets.server.database.job_life import MAX_INTERRUPTIONS, JobStateError
from finetune_assets.server.database.jobs import IdempotencyKeyReusedError, JobRequest
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.database.usage import Account
from finetune_assets_tests.server.database.conftest import Change


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
    stores.job_life.succeeded(job.id, path=f"{job.id}/model", results=b"step,train_loss\n", trained_tokens=99)
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
    assert stores.jobs.oldest("validating_files") == []
    (oldest,) = stores.jobs.oldest("queued")
    assert oldest.id == first.id


def test_each_owner_s_oldest_job_is_offered(stores: Stores) -> None:
    jobs = [make_job(stores, owner=Account(name)) for name in ("ann", "ann", "ben", "cleo", "ben")]
    offered = stores.jobs.oldest("validating_files", besides=[jobs[2].id])
    assert [job.id for job in offered] == [jobs[0].id, jobs[3].id, jobs[4].id]


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
    assert f"interrupted {MAX_INTERRUPTIONS} times" in failed.error["message"]


def test_interruptions_with_progress_between_them_are_not_counted(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.validated(job.id)
    for _ in range(MAX_INTERRUPTIONS + 1):
        stores.job_life.started(job.id)
        stores.job_life.saved(job.id)
        stores.job_life.recover()
    assert status(stores, job) == "queued"


@pytest.mark.parametrize("reached", ["validating_files", "queued", "running"])
def test_a_paused_job_goes_on_with_what_is_left_to_do(stores: Stores, reached: str) -> None:
    job = make_job(stores)
    steps = {"validating_files": 0, "queued": 1, "running": 2}
    for step in (stores.job_life.validated, stores.job_life.started)[: steps[reached]]:
        step(job.id)
    assert stores.job_life.paused(job.id).status == "paused"
    stores.job_life.recover()
    assert status(stores, job) == "paused"
    resumed = stores.job_life.resumed(job.id)
    assert resumed.status == ("validating_files" if reached == "validating_files" else "queued")
    assert messages(stores, job)[-2:] == ["The job was paused", "The job was resumed"]


def test_a_job_paused_while_its_files_are_validated_need_not_be_validated_again(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.paused(job.id)
    stores.job_life.validated(job.id)
    assert status(stores, job) == "paused"
    assert stores.job_life.resumed(job.id).status == "queued"


@pytest.mark.parametrize("step", ["started", "saved", "paused", "put_back"])
def test_a_paused_job_takes_no_step_but_to_be_resumed_or_to_end(stores: Stores, step: str) -> None:
    job = make_job(stores)
    stores.job_life.paused(job.id)
    with pytest.raises(JobStateError, match="is paused"):
        getattr(stores.job_life, step)(job.id)
    assert stores.job_life.cancelled(job.id).status == "cancelled"
    with pytest.raises(JobStateError, match="must be paused for this, but is cancelled"):
        stores.job_life.resumed(job.id)


def test_the_snapshot_of_a_paused_job_is_a_model(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.validated(job.id)
    stores.job_life.started(job.id)
    stores.job_life.paused(job.id)
    for _ in range(2):  # and the same step once more, after an interruption
        stores.job_life.checkpointed(job.id, {"step": 3, "total_steps": 9, "train_loss": 1.0}, f"{job.id}/checkpoint-3")
    [snapshot] = stores.models.checkpoints(job.id, after=None, limit=10).items
    assert snapshot.id == f"{job.tuned_model}:ckpt-step-3"


def test_a_note_is_told_in_any_state(stores: Stores) -> None:
    job = make_job(stores)
    stores.job_life.cancelled(job.id)
    stores.job_life.note(job.id, "The disk is nearly full", "warn")
    newest = stores.events.page(job.id, after=None, limit=1).items[0]
    assert (newest.message, newest.level) == ("The disk is nearly full", "warn")


def test_jobs_are_counted_by_state(stores: Stores) -> None:
    first, _ = make_job(stores), make_job(stores)
    stores.job_life.cancelled(first.id)
    assert [stores.jobs.count(state) for state in ("validating_files", "cancelled", "running")] == [1, 1, 0]


def test_two_requests_with_one_key_are_one_job(stores: Stores) -> None:
    job = make_job(stores, idempotency_key="k", request_hash="a")
    assert make_job(stores, idempotency_key="k", request_hash="a").id == job.id
    assert make_job(stores, idempotency_key="l", request_hash="a").id != job.id
    with pytest.raises(IdempotencyKeyReusedError, match="'k' came with another request"):
        make_job(stores, idempotency_key="k", request_hash="b")


def test_a_fingerprint_finds_the_job_unless_that_has_failed(stores: Stores) -> None:
    request = {"metadata": {"fingerprint": "f"}, "request_hash": "a"}
    job = make_job(stores, **request)
    assert make_job(stores, **request).id == job.id
    assert make_job(stores, **request | {"request_hash": "b"}).id != job.id
    stores.job_life.failed(job.id, "server_error", "out of memory")
    assert make_job(stores, **request).id != job.id


def test_a_repeated_request_finds_its_job_for_a_quarter_of_an_hour(stores: Stores, change: Change) -> None:
    job = make_job(stores, request_hash="a")
    assert make_job(stores, request_hash="a", repeated=True).id == job.id
    assert make_job(stores, request_hash="b", repeated=True).id != job.id
    assert make_job(stores, request_hash="a").id != job.id
    change("UPDATE jobs SET created_at = created_at - 901")
    assert make_job(stores, request_hash="a", repeated=True).id != job.id


def test_copies_of_a_request_that_arrive_together_are_one_job(stores: Stores) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = threads.map(lambda _: make_job(stores, idempotency_key="k", request_hash="a").id, range(24))
    assert len(set(made)) == 1


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
