"""The queue: in order, in its slots, and to an end."""

from __future__ import annotations

import errno
import io
import multiprocessing
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.server.database.job_life import MAX_DEATHS, MAX_INTERRUPTIONS
from finetune_assets.server.database.jobs import QUEUED
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.database.usage import Account
from finetune_assets.server.jobs import supervisor as supervisor_module
from finetune_assets.server.jobs.supervisor import ALONE_AFTER, UNSUSPICIOUS, Supervisor, Worker, last_error
from finetune_assets.server.shortage import DESCRIPTORS, DISK, MEMORY, memory_kills, rest_seconds, shortage_of
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


def test_a_job_during_which_the_server_ended_again_and_again_rests_and_others_get_their_turn(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_assets.server.jobs.supervisor.rest_seconds", lambda times: 0.4 * times)
    suspicious, other = (make_queued_job(stores, "ft:tiny-text:local::deleted") for _ in range(2))
    for _ in range(UNSUSPICIOUS + 1):
        stores.job_life.started(suspicious.id)
        stores.job_life.recover()
    supervisor = Supervisor(stores, jobs=1)
    supervisor.start()
    wait_for(stores, suspicious, "failed")
    supervisor.hurry()
    supervisor.stop()
    assert "The job is begun again in 0 seconds" in messages(stores, suspicious)
    ends, begins = (stores.events.page(job.id, after=None, limit=100).items for job in (other, suspicious))
    last_beginning = next(event for event in begins if event.message == "Fine-tuning job started")
    assert ends[0].number < last_beginning.number, "the newest event comes first"


def test_jobs_train_one_after_the_other_and_fail_if_their_base_was_deleted(stores: Stores) -> None:
    first, second = (make_queued_job(stores, "ft:tiny-text:local::deleted") for _ in range(2))
    supervisor = Supervisor(stores, jobs=1, together=1)
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


class Ended(BaseProcess):
    """A process that has ended with this code; below 0, by that signal."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code

    @property
    def exitcode(self) -> int:
        return self._code


def ended(stores: Stores, job: Job, code: int) -> Worker:
    """The worker of a job in training, whose process has ended with this code; below 0, by that signal."""
    stores.log(job.id).touch()
    return Worker(job.id, job.claim, "queued", None, Ended(code), memory_kills())


def settle(stores: Stores, supervisor: Supervisor, job: Job, code: int) -> Job:
    stores.job_life.started(job.id)
    running = stores.jobs.get(job.id)
    assert running is not None
    supervisor._settle(ended(stores, job, code), running)
    found = stores.jobs.get(job.id)
    assert found is not None
    return found


@pytest.mark.parametrize("lack", [DISK, DESCRIPTORS])
def test_a_job_waits_for_what_the_machine_lacks_and_says_what(stores: Stores, lack: Any) -> None:
    job, supervisor = make_queued_job(stores, "tiny-text"), Supervisor(stores)
    for _ in range(2 * MAX_DEATHS):
        assert settle(stores, supervisor, job, lack.exit_code).status == "queued"
    assert messages(stores, job)[-1].startswith(f"{lack.words}. {lack.remedy}. The job is tried again in ")


@pytest.mark.parametrize(("code", "named"), [(MEMORY.exit_code, "out_of_memory"), (1, "server_error")])
def test_a_job_whose_process_dies_again_and_again_fails_by_name(stores: Stores, code: int, named: str) -> None:
    job, supervisor = make_queued_job(stores, "tiny-text"), Supervisor(stores)
    states = [settle(stores, supervisor, job, code) for _ in range(MAX_DEATHS)]
    assert [state.status for state in states] == ["queued", "queued", "failed"]
    assert states[-1].error is not None
    assert states[-1].error["code"] == named


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_whose_process_somebody_ends_is_tried_as_often_as_one_whose_server_ends(
    stores: Stores, number: signal.Signals
) -> None:
    job, supervisor = make_queued_job(stores, "tiny-text"), Supervisor(stores)
    states = [settle(stores, supervisor, job, -number).status for _ in range(MAX_INTERRUPTIONS)]
    assert states == ["queued"] * (MAX_INTERRUPTIONS - 1) + ["failed"]


@pytest.mark.skipif(not multiprocessing.get_all_start_methods().count("forkserver"), reason="no forks here")
def test_a_job_whose_process_ends_with_the_one_it_was_forked_from_is_tried_as_often(stores: Stores) -> None:
    job, supervisor = make_queued_job(stores, "tiny-text"), Supervisor(stores)
    supervisor._processes = multiprocessing.get_context("forkserver")
    states = [settle(stores, supervisor, job, 255).status for _ in range(MAX_INTERRUPTIONS)]
    assert states == ["queued"] * (MAX_INTERRUPTIONS - 1) + ["failed"]
    assert "was ended with the process from which it was forked" in messages(stores, job)[-1]


def test_progress_between_two_deaths_counts_them_anew(stores: Stores) -> None:
    job, supervisor = make_queued_job(stores, "tiny-text"), Supervisor(stores)
    for _ in range(2 * MAX_DEATHS):
        stores.job_life.started(job.id)
        stores.job_life.saved(job.id)
        running = stores.jobs.get(job.id)
        assert running is not None
        supervisor._settle(ended(stores, job, 1), running)
    assert status(stores, job) == "queued"


def sleeping() -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=[1000])
    process.start()
    return process


def test_the_process_of_a_paused_job_that_never_ends_loses_its_slot() -> None:
    process = sleeping()
    worker = Worker("job", 1, "queued", None, process, 0)
    worker.give_until(1000)
    worker.give_until(float("inf"))  # it runs again
    assert process.exitcode is None
    worker.give_until(0)
    process.join()
    assert worker.exit_code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (OSError(errno.ENOSPC, "x"), DISK),
        (OSError(errno.EDQUOT, "x"), DISK),
        (OSError(errno.EMFILE, "x"), DESCRIPTORS),
        (MemoryError(), MEMORY),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"), MEMORY),
        (OSError(errno.EACCES, "x"), None),
        (RuntimeError("shape mismatch"), None),
    ],
)
def test_a_shortage_is_known_by_its_error(error: Exception, lack: Any) -> None:
    assert shortage_of(error) is lack


def test_rests_grow_up_to_some_minutes() -> None:
    assert [rest_seconds(times) for times in (1, 2, 3, 100)] == [5, 10, 20, 300]


def test_jobs_of_several_owners_are_begun_in_turn(stores: Stores) -> None:
    owners = {make_job(stores, owner=Account(name)).id: name for name in ("ann", "ann", "ann", "ben", "cleo", "ben")}
    for job_id in owners:
        stores.job_life.validated(job_id)
    supervisor, begun = Supervisor(stores, together=1), []
    while supervisor._start_next(QUEUED, None):
        begun.append(owners[supervisor._workers[-1].job_id])
        supervisor._workers[-1].process.kill()
        if len(begun) > 1:  # one is still at work, the others are over
            stores.job_life.cancelled(supervisor._workers.pop(0).job_id)
    assert begun == ["ann", "ben", "cleo", "ann", "ben", "ann"]


def queued(stores: Stores, **changes: Any) -> Job:
    job = make_job(stores, **changes)
    stores.job_life.validated(job.id)
    return job


def begun(supervisor: Supervisor) -> list[str]:
    """The jobs that the next process works on, which is ended again."""
    before = len(supervisor._workers)
    if not supervisor._start_next(QUEUED, None):
        return []
    workers = supervisor._workers[before:]
    assert len({id(worker.process) for worker in workers}) == 1
    workers[0].process.kill()
    return [worker.job_id for worker in workers]


def test_jobs_that_wait_for_one_base_model_begin_in_one_process_the_oldest_first(stores: Stores) -> None:
    first, other_base, *more = (queued(stores, base=base) for base in ("a", "b", "a", "a", "a"))
    supervisor = Supervisor(stores, jobs=3, together=3)
    assert begun(supervisor) == [first.id, more[0].id, more[1].id]
    assert supervisor._load(None) == 1
    assert begun(supervisor) == [other_base.id]
    assert begun(supervisor) == [more[2].id]


@pytest.mark.parametrize("changes", [{"method": "dpo"}, {"hyperparameters": {"lora_dropout": 0.1}}])
def test_jobs_whose_steps_cannot_be_made_in_one_pass_train_alone(stores: Stores, changes: Any) -> None:
    jobs = [queued(stores), queued(stores, **changes), queued(stores, **changes), queued(stores)]
    supervisor = Supervisor(stores, jobs=4, together=4)
    assert begun(supervisor) == [jobs[0].id, jobs[3].id]
    assert [begun(supervisor), begun(supervisor)] == [[jobs[1].id], [jobs[2].id]]


def test_a_job_that_its_process_may_have_died_of_trains_alone(stores: Stores) -> None:
    deadly, hungry, *harmless = (queued(stores) for _ in range(4))
    supervisor = Supervisor(stores, jobs=4, together=4)
    for _ in range(ALONE_AFTER):
        settle(stores, supervisor, deadly, 1)
    settle(stores, supervisor, hungry, MEMORY.exit_code)
    supervisor._resting.clear()
    assert begun(supervisor) == [deadly.id]
    assert begun(supervisor) == [hungry.id]
    assert begun(supervisor) == [job.id for job in harmless]


def test_where_jobs_train_together_one_waits_for_those_that_came_with_it(stores: Stores) -> None:
    first, second, third = queued(stores), make_job(stores), make_job(stores, method="dpo")
    supervisor = Supervisor(stores, jobs=1, together=8)
    assert begun(supervisor) == []
    stores.job_life.validated(second.id)
    assert begun(supervisor) == [first.id, second.id]
    assert not supervisor._awaiting
    assert status(stores, third) == "validating_files"


def test_no_job_waits_for_others_without_end(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _coming = queued(stores), make_job(stores)
    monkeypatch.setattr(supervisor_module, "AWAIT_SECONDS", -1.0)
    assert begun(Supervisor(stores, jobs=1, together=8)) == [first.id]


def test_a_process_lives_as_long_as_one_of_its_jobs_has_a_use_for_it(stores: Stores) -> None:
    cancelled, paused, trained = (queued(stores) for _ in range(3))
    supervisor = Supervisor(stores, together=3)
    process, together = sleeping(), []
    for job in (cancelled, paused, trained):
        claim = stores.jobs.claim(job.id, QUEUED, "this", 60)
        assert claim is not None
        supervisor._workers.append(Worker(job.id, claim, QUEUED, None, process, 0, together=together))
        stores.job_life.of(claim).started(job.id)
    stores.job_life.cancelled(cancelled.id)
    stores.job_life.paused(paused.id)
    stores.jobs.release(paused.id, together[1].claim)
    stores.job_life.resumed(paused.id)
    supervisor._clear_up()
    assert [worker.job_id for worker in supervisor._workers] == [cancelled.id, trained.id], (
        "one waits for another process"
    )
    together[0].give_until(0)
    assert process.exitcode is None
    together[2].give_until(0)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_each_job_goes_on_from_its_own_state_when_their_process_is_ended(stores: Stores) -> None:
    over, running = queued(stores), queued(stores)
    supervisor, together = Supervisor(stores, together=2), []
    for job in (over, running):
        supervisor._workers.append(Worker(job.id, 0, QUEUED, None, Ended(-signal.SIGKILL), 0, together=together))
        stores.job_life.started(job.id)
    stores.log(over.id).touch()
    stores.job_life.succeeded(over.id, path="x", results=b"", trained_tokens=1)
    supervisor._clear_up()
    assert (status(stores, over), status(stores, running)) == ("succeeded", "queued")
    assert str(stores.log(over.id)) in messages(stores, running)[-1], "where their process has printed"
