"""Models on disk: what a row speaks of is there, and nothing else stays."""

from __future__ import annotations

import pytest

from finetune_assets.server.database.models import KEPT_CHECKPOINTS
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets_tests.server.database.test_job_life import make_job


@pytest.fixture
def job(stores: Stores) -> Job:
    """A job in training."""
    job = make_job(stores)
    stores.job_life.validated(job.id)
    stores.job_life.started(job.id)
    return job


def add_weights(stores: Stores, job: Job, name: str) -> str:
    folder = stores.models.output(job.id) / name
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return stores.models.publish(folder)


def add_checkpoint(stores: Stores, job: Job, step: int) -> None:
    path = add_weights(stores, job, f"checkpoint-{step}")
    stores.job_life.checkpointed(job.id, {"step": step, "total_steps": 9, "train_loss": 1.0}, path)


def folders(stores: Stores, job: Job) -> set[str]:
    folder = stores.models.output(job.id)
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_only_the_last_checkpoints_stay(stores: Stores, job: Job) -> None:
    for step in range(1, 6):
        add_checkpoint(stores, job, step)
        stores.models.retire_checkpoints(job.id)
    rows = stores.models.checkpoints(job.id, after=None, limit=10).items
    assert [row.step for row in rows] == [5, 4, 3]
    assert len(rows) == KEPT_CHECKPOINTS
    assert folders(stores, job) == {"checkpoint-3", "checkpoint-4", "checkpoint-5"}


def test_the_metrics_of_a_checkpoint_are_those_openai_documents(stores: Stores, job: Job) -> None:
    add_checkpoint(stores, job, 4)
    [row] = stores.models.checkpoints(job.id, after=None, limit=10).items
    assert row.metrics == {"step": 4, "train_loss": 1.0}


def test_deleting_a_model_deletes_its_weights_and_no_others(stores: Stores, job: Job) -> None:
    add_checkpoint(stores, job, 1)
    stores.job_life.succeeded(job.id, path=add_weights(stores, job, "model"), results=b"", trained_tokens=1)
    assert stores.models.delete(job.tuned_model)
    assert stores.models.get(job.tuned_model) is None
    assert not stores.models.delete(job.tuned_model)
    assert folders(stores, job) == {"checkpoint-1"}


def test_what_a_killed_trainer_left_is_removed_or_set_aside(stores: Stores, job: Job) -> None:
    add_checkpoint(stores, job, 1)
    add_weights(stores, job, ".model.partial")
    unpublished = add_weights(stores, make_job(stores), "checkpoint-1")
    stores.models.remove_leftovers()
    assert (stores.home / "lost+found/models" / unpublished).is_dir()
    assert [path.name for path in (stores.home / "models").iterdir()] == [job.id]
    assert folders(stores, job) == {"checkpoint-1"}


def test_a_new_attempt_may_give_the_same_names_again(stores: Stores, job: Job) -> None:
    add_checkpoint(stores, job, 1)
    stores.models.clear(job.id, stores.job_life.went_back(job.id, 0))
    assert folders(stores, job) == set()
    add_checkpoint(stores, job, 1)
    assert stores.models.get(f"{job.tuned_model}:ckpt-step-1") is not None


def test_an_attempt_that_goes_on_keeps_the_checkpoints_up_to_there(stores: Stores, job: Job) -> None:
    for step in (1, 2, 3):
        add_checkpoint(stores, job, step)
    add_weights(stores, job, "model")
    stores.models.clear(job.id, stores.job_life.went_back(job.id, 2))
    assert [row.step for row in stores.models.checkpoints(job.id, after=None, limit=10).items] == [2, 1]
    assert folders(stores, job) == {"checkpoint-1", "checkpoint-2"}
