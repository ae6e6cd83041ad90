"""A job's worker: what it does at a pause, at SIGTERM, and when something it needs is broken."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from finetune_assets.server import catalog
from finetune_assets.server.database.jobs import QUEUED, JobRequest
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs.report import JobReport
from finetune_assets.server.jobs.worker import Held, work, work_together
from finetune_assets.server.training import room
from finetune_assets.server.training.footprint import footprint
from finetune_assets.server.training.watcher import Progress
from finetune_assets_tests.server.conftest import training_lines
from finetune_assets_tests.server.networks import chat, picture


@pytest.fixture
def stores(home: Path) -> Stores:
    return Stores(home)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def add_file(stores: Stores, content: bytes) -> str:
    return stores.files.add(io.BytesIO(content), filename="train.jsonl", purpose="fine-tune").id


def make_job(stores: Stores, content: bytes | None = None, **changes: Any) -> Job:
    asked: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "base": "gpt-4o-mini",
        "training_file": add_file(stores, content or training_lines(12)),
        "validation_file": None,
        "suffix": None,
        "seed": 1,
        "hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0},
        "metadata": None,
        "method": "supervised",
    }
    return stores.jobs.create(JobRequest(**asked | changes))


def now(stores: Stores, job: Job) -> Job:
    found = stores.jobs.get(job.id)
    assert found is not None
    return found


def messages(stores: Stores, job: Job) -> list[str]:
    return [event.message for event in stores.events.page(job.id, after=None, limit=10_000).items][::-1]


def work_and(stores: Stores, job: Job, act: Callable[[], object], after_steps: int = 3) -> None:
    """Work on the job, and `act` on another thread once it has made some steps."""

    def wait_and_act() -> None:
        while len(stores.events.metrics(job.id)) < after_steps:
            time.sleep(0.01)
        act()

    acting = threading.Thread(target=wait_and_act, daemon=True)
    acting.start()
    work(stores, job.id)
    acting.join()


def test_a_job_is_validated_and_then_trained(stores: Stores) -> None:
    job = make_job(stores)
    work(stores, job.id)
    assert now(stores, job).status == "queued"
    work(stores, job.id)
    done = now(stores, job)
    assert done.status == "succeeded", done.error
    told = "\n".join(messages(stores, job))
    assert "Training on " in told
    assert "Hyperparameters: n_epochs=2, batch_size=4, learning_rate_multiplier=1.0" in told


def test_a_paused_job_saves_itself_and_goes_on_where_it_was(stores: Stores) -> None:
    job = make_job(stores, hyperparameters={"n_epochs": 20, "batch_size": 4, "learning_rate_multiplier": 1.0})
    work(stores, job.id)
    work_and(stores, job, lambda: stores.job_life.paused(job.id))
    paused = now(stores, job)
    assert paused.status == "paused"
    newest = stores.models.checkpoints(job.id, after=None, limit=1).items[0]
    assert (stores.models.weights(newest) / "adapter_model.safetensors").exists()
    assert newest.step is not None
    stores.job_life.resumed(job.id)
    work(stores, job.id)
    done = now(stores, job)
    assert done.status == "succeeded", done.error
    assert f"Training goes on after step {newest.step} of 60" in messages(stores, job)
    assert done.result_file is not None
    row = stores.files.get(done.result_file)
    assert row is not None
    lines = stores.files.path(row).read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in lines] == list(range(1, 61))


def test_sigterm_saves_the_training_after_the_current_step(stores: Stores) -> None:
    job = make_job(stores, hyperparameters={"n_epochs": 20, "batch_size": 4, "learning_rate_multiplier": 1.0})
    work(stores, job.id)
    work_and(stores, job, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert now(stores, job).status == "running"
    assert list(stores.state(job.id).glob("step-*"))
    stores.job_life.put_back(job.id)
    work(stores, job.id)
    done = now(stores, job)
    assert done.status == "succeeded", done.error
    assert any(message.startswith("Training goes on after step") for message in messages(stores, job))


def test_a_cancelled_job_is_left_at_once(stores: Stores) -> None:
    job = make_job(stores, hyperparameters={"n_epochs": 20, "batch_size": 4, "learning_rate_multiplier": 1.0})
    work(stores, job.id)
    work_and(stores, job, lambda: stores.job_life.cancelled(job.id))
    assert now(stores, job).status == "cancelled"
    assert len(stores.events.metrics(job.id)) < 60


def test_a_file_deleted_before_training_fails_the_job(stores: Stores) -> None:
    job = make_job(stores)
    work(stores, job.id)
    stores.files.delete(job.training_file)
    work(stores, job.id)
    failed = now(stores, job)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["message"] == f"No such File object: {job.training_file}"


def test_images_for_a_blind_model_fail_in_validation(stores: Stores) -> None:
    lines = [orjson.dumps({"messages": chat("Red?", "Yes", picture("red", (9 + i, 9)))}) for i in range(10)]
    job = make_job(stores, b"\n".join(lines))
    work(stores, job.id)
    failed = now(stores, job)
    assert failed.error == {
        "code": "invalid_training_file",
        "message": "The model gpt-4o-mini takes no images, but the file has 10; choose a model that sees.",
        "param": "training_file",
    }


@pytest.fixture
def little_memory(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for examples of 300 tokens one by one, where a process itself takes nothing."""
    size = footprint(catalog.find(stores, "gpt-4o-mini").base, tokens=300, recompute=True).total
    monkeypatch.setattr(room, "PROCESS", 0)
    monkeypatch.setattr(room, "ram_bytes", lambda: int(size * (1 + room.ERROR)))


@pytest.mark.usefixtures("little_memory")
def test_a_training_that_cannot_fit_fails_in_validation_with_the_context_that_does(stores: Stores) -> None:
    lines = [{"messages": chat("How long?", "a" * (400 if number else 40))} for number in range(10)]
    usual = {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 1.0}
    job = make_job(stores, b"\n".join(map(orjson.dumps, lines)), hyperparameters=usual)
    work(stores, job.id)
    failed = now(stores, job)
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == ("out_of_memory", "model")
    told = re.search(r"with examples of (\d+) tokens: one by one.*set context_length to (\d+)", failed.error["message"])
    assert told is not None
    longest, context = map(int, told.groups())
    assert 400 < longest < 512
    assert 200 < context <= 300
    again = make_job(stores, b"\n".join(map(orjson.dumps, lines)), hyperparameters=usual | {"context_length": context})
    work(stores, again.id)
    assert now(stores, again).status == QUEUED
    work(stores, again.id)
    assert now(stores, again).status == "succeeded"
    assert any("with activations computed twice: there is no room" in message for message in messages(stores, again))


def test_tool_calls_that_the_chat_template_does_not_know_fail_in_validation(stores: Stores) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    calling = [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "20 degrees"},
        {"role": "assistant", "content": "Yes"},
    ]
    line = orjson.dumps({"messages": calling, "tools": tools})
    job = make_job(stores, training_lines(10) + b"\n" + line)
    work(stores, job.id)
    failed = now(stores, job)
    assert failed.error is not None
    assert failed.error["code"] == "invalid_training_file"
    assert failed.error["message"].startswith("line 11: the model 'gpt-4o-mini' cannot be taught tools: its chat")


def test_a_damaged_base_model_fails_the_job_with_its_place(stores: Stores) -> None:
    job = make_job(stores)
    work(stores, job.id)
    weights = stores.home / "tiny-text/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    work(stores, job.id)
    failed = now(stores, job)
    assert failed.error is not None
    assert failed.error["code"] == "base_model_unusable"
    assert str(weights.parent) in failed.error["message"]


def test_a_learning_rate_that_is_too_high_fails_the_job(stores: Stores) -> None:
    job = make_job(stores, hyperparameters={"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1e30})
    work(stores, job.id)
    work(stores, job.id)
    failed = now(stores, job)
    assert failed.error is not None
    assert failed.error["code"] == "training_failed"
    assert "the learning rate is too high" in failed.error["message"]


def pair(n: int, **changes: Any) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": f"Is {n} fine?"}]},
        "preferred_output": [{"role": "assistant", "content": "Yes"}],
        "non_preferred_output": [{"role": "assistant", "content": "No"}],
    } | changes


def test_a_dpo_job_runs_to_its_end(stores: Stores) -> None:
    options = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto", "beta": "auto"}
    content = b"\n".join(orjson.dumps(pair(n)) for n in range(12))
    job = make_job(stores, content, method="dpo", hyperparameters=options)
    work(stores, job.id)
    work(stores, job.id)
    done = now(stores, job)
    assert done.status == "succeeded", done.error
    assert done.hyperparameters["beta"] == 0.1
    assert stores.events.metrics(job.id)[0]["train_loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: not moved yet


def test_a_file_in_the_format_of_the_other_method_fails_with_one_sentence(stores: Stores) -> None:
    options = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0, "beta": 0.1}
    job = make_job(stores, method="dpo", hyperparameters=options)
    work(stores, job.id)
    failed = now(stores, job)
    assert failed.error is not None
    assert failed.error["code"] == "invalid_training_file"
    told = failed.error["message"]
    assert "the file is in the chat format, but the method 'dpo' takes the preference (DPO) format" in told


def test_a_wandb_run_is_kept_offline_without_a_key(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    integration = {"type": "wandb", "wandb": {"project": "tests", "name": "mine", "tags": ["a"]}}
    job = make_job(stores, integrations=[integration])
    work(stores, job.id)
    work(stores, job.id)
    done = now(stores, job)
    assert done.status == "succeeded", done.error
    [told] = [message for message in messages(stores, job) if message.startswith("Weights & Biases")]
    [run] = (stores.home / "wandb").rglob("*.wandb")
    assert f"run in {run.parent}" in told


def test_a_wandb_that_fails_does_not_fail_the_job(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (stores.home / "wandb").write_text("in the way")
    job = make_job(stores, integrations=[{"type": "wandb", "wandb": {"project": "tests"}}])
    work(stores, job.id)
    work(stores, job.id)
    assert now(stores, job).status == "succeeded"
    [told] = [message for message in messages(stores, job) if message.startswith("Weights & Biases")]
    assert told.startswith("Weights & Biases could not be opened: FileExistsError")


def hold(stores: Stores, jobs: list[Job]) -> dict[str, Held]:
    """The jobs, validated and taken up."""
    held = {}
    for job in jobs:
        stores.job_life.validated(job.id)
        claim = stores.jobs.claim(job.id, QUEUED, "this", 60)
        assert claim is not None
        held[job.id] = Held(stores.of(claim), job.id, claim)
    return held


def test_jobs_trained_together_end_each_for_itself_and_once(stores: Stores) -> None:
    kinds: list[tuple[int, dict[str, Any]]] = [(1, {}), (12, {}), (12, {}), (1, {"training_file": "file-gone"})]
    short, cancelled, paused, broken = (
        make_job(stores, hyperparameters={"n_epochs": n, "batch_size": 4, "learning_rate_multiplier": 1.0}, **changes)
        for n, changes in kinds
    )
    held = hold(stores, [short, cancelled, paused, broken])

    def end_two() -> None:
        while now(stores, short).status != "succeeded" or len(stores.events.metrics(paused.id)) < 4:
            time.sleep(0.01)
        stores.job_life.cancelled(cancelled.id)
        stores.job_life.paused(paused.id)

    acting = threading.Thread(target=end_two)
    acting.start()
    work_together(held)
    acting.join()
    assert not held
    states = [now(stores, job).status for job in (short, cancelled, paused, broken)]
    assert states == ["succeeded", "cancelled", "paused", "failed"]
    assert "3 jobs train on one copy of the base model; their steps pass together" in messages(stores, short)
    assert len([m for m in messages(stores, short) if m.startswith("New fine-tuned model created")]) == 1
    assert now(stores, paused).lease_until is None, "another process may take it up"
    stores.job_life.resumed(paused.id)
    work(stores, paused.id)
    assert now(stores, paused).status == "succeeded"
    assert [step["step"] for step in stores.events.metrics(paused.id)] == list(range(1, 37))


def test_an_error_of_ours_in_one_of_several_jobs_sends_that_job_alone_back_to_the_queue(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_job(stores), make_job(stores)
    held = hold(stores, [first, second])
    stepped = JobReport.stepped

    def fail(self: JobReport, progress: Progress) -> None:
        if self._job_id == first.id and progress.step == 2:
            raise KeyError("secret")
        stepped(self, progress)

    monkeypatch.setattr(JobReport, "stepped", fail)
    work_together(held)
    assert (now(stores, first).status, now(stores, second).status) == ("queued", "succeeded")
    assert "Its training met an error (KeyError)" in messages(stores, first)[-1]
    assert "secret" not in messages(stores, first)[-1]
