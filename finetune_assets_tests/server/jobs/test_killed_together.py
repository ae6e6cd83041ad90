"""Jobs that one process trains, which is killed again and again: each ends once, with the model that it has alone.

It runs with `FINETUNE_ASSETS_LONG_TESTS=1`; `COTRAINING_KILLS=50` makes as many kills.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs import supervisor as supervisor_module
from finetune_assets.server.jobs.process import begin
from finetune_assets.server.jobs.supervisor import Supervisor
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.jobs.test_worker import make_job, messages, now

pytestmark = long
KILLS = int(os.environ.get("COTRAINING_KILLS", "3"))
DIFFERENT = [
    {"n_epochs": 6 + KILLS, "batch_size": 4, "learning_rate_multiplier": 1.0},
    {"n_epochs": 9 + KILLS, "batch_size": 5, "learning_rate_multiplier": 3.0, "lora_r": 4},
    {"n_epochs": 4 + KILLS, "batch_size": 2, "learning_rate_multiplier": 0.5},
]


def begin_at_once(*arguments: Any) -> None:
    """What a process does, at the priority of tests: a nice one waits for minutes beside others' work."""
    os.nice = lambda _: 0
    begin(*arguments)


def finished(stores: Stores, *, together: int, kills: int) -> list[Job]:
    jobs = [make_job(stores, seed=7, hyperparameters=settings) for settings in DIFFERENT]
    for job in jobs:
        stores.job_life.validated(job.id)
    supervisor = Supervisor(stores, jobs=1, together=together)
    supervisor.start()
    for _ in range(kills):
        kill_between_steps(stores, supervisor, jobs)
    for job in jobs:
        wait_until(lambda: now(stores, job).status in ("succeeded", "failed"), lambda: messages(stores, job))  # noqa: B023
    supervisor.stop()
    return jobs


def kill_between_steps(stores: Stores, supervisor: Supervisor, jobs: list[Job]) -> None:
    steps = [len(stores.events.metrics(job.id)) for job in jobs]
    saved = {path.name for job in jobs for path in stores.state(job.id).glob("step-*")}

    def goes_on() -> bool:
        states = {path.name for job in jobs for path in stores.state(job.id).glob("step-*")}
        return states != saved and any(len(stores.events.metrics(j.id)) > n for j, n in zip(jobs, steps, strict=True))

    wait_until(lambda: bool(supervisor._workers) and goes_on(), lambda: [messages(stores, job)[-3:] for job in jobs])
    time.sleep(random.uniform(0, 0.3))
    for worker in supervisor._workers[:1]:
        worker.process.kill()
        worker.process.join()


def weights(stores: Stores, job: Job) -> dict[str, torch.Tensor]:
    model = stores.models.get(job.tuned_model)
    assert model is not None
    return load_file(Path(stores.models.weights(model)) / "adapter_model.safetensors")


@pytest.mark.timeout(20 * PATIENCE_S)
def test_jobs_whose_process_is_killed_end_once_each_with_the_weights_that_they_have_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "begin", begin_at_once)
    stores = Stores(home)
    alone = finished(stores, together=1, kills=0)
    together = finished(stores, together=3, kills=KILLS)
    for one, other in zip(alone, together, strict=True):
        assert now(stores, other).status == "succeeded", now(stores, other).error
        assert messages(stores, other).count("The job has successfully completed") == 1
        assert any("train on one copy of the base model" in message for message in messages(stores, other))
        assert [m["step"] for m in stores.events.metrics(other.id)] == [
            m["step"] for m in stores.events.metrics(one.id)
        ]
        first, second = weights(stores, one), weights(stores, other)
        assert all(torch.allclose(first[name], second[name], rtol=1e-3, atol=1e-5) for name in first)
    stores.close()
