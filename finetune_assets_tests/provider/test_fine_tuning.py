"""Jobs that are created once, followed, and read out."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_assets.errors import NoFreePlaceError, OverBudgetError, ProviderError
from finetune_assets.provider import fine_tuning
from finetune_assets.provider.files import UploadedFile, upload_once
from finetune_assets.provider.fine_tuning import JobRequest, Progress
from finetune_assets.task import Method
from finetune_assets_tests.provider.transports import LosesAnswers, NeverArrives, client_over
from finetune_assets_tests.scripted_provider import ScriptedProvider
from finetune_assets_tests.server.conftest import let_go
from finetune_assets_tests.server_process import ServerProcess

FILE = UploadedFile("file-1", "a" * 64, 10, reused=False)


def job_request(**changes: Any) -> JobRequest:
    fields = {
        "model": "tiny-text",
        "training_file": FILE,
        "validation_file": None,
        "method": Method(n_epochs=1, seed=42),
    }
    return JobRequest(**fields | changes)


@pytest.fixture
def uploaded(client: openai.OpenAI, tmp_path: Path, request: pytest.FixtureRequest) -> UploadedFile:
    """Twelve questions and answers of this test's own."""
    path = tmp_path / "train.jsonl"
    with path.open("w") as file:
        for number in range(12):
            question = {"role": "user", "content": f"{request.node.name} {number}?"}
            answer = {"role": "assistant", "content": "Yes" if number % 2 else "No"}
            file.write(json.dumps({"messages": [question, answer]}) + "\n")
    return upload_once(client, path)


def jobs_of(client: openai.OpenAI, file: UploadedFile) -> list[str]:
    return [job.id for job in client.fine_tuning.jobs.list(limit=100) if job.training_file == file.id]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"training_file": UploadedFile("file-1", "b" * 64, 10, reused=False)},
        {"validation_file": FILE},
        {"method": Method(n_epochs=2, seed=42)},
        {"method": Method(n_epochs=1, seed=7)},
        {"method": Method(n_epochs=1, seed=42, learning_rate_multiplier=0.5)},
    ],
)
def test_whatever_changes_the_weights_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert job_request(**change).fingerprint != job_request().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"training_file": UploadedFile("file-2", "a" * 64, 10, reused=True)},
        {"suffix": "cells-mono"},
        {"labels": {"region": "mono"}},
    ],
)
def test_names_do_not_change_the_fingerprint(change: dict[str, Any]) -> None:
    assert job_request(**change).fingerprint == job_request().fingerprint


def test_the_same_request_makes_one_job(client: openai.OpenAI, uploaded: UploadedFile) -> None:
    first, second = (fine_tuning.submit_once(client, job_request(training_file=uploaded)) for _ in range(2))
    let_go(client, first.job.id)
    assert (first.job.id, first.reused, second.reused) == (second.job.id, False, True)
    assert jobs_of(client, uploaded) == [first.job.id]


def test_the_job_carries_fingerprint_labels_and_hyperparameters(client: openai.OpenAI, uploaded: UploadedFile) -> None:
    wanted = job_request(
        training_file=uploaded, method=Method(n_epochs=3, seed=5), suffix="cells-mono", labels={"region": "mono"}
    )
    job = fine_tuning.submit_once(client, wanted).job
    let_go(client, job.id)
    assert job.metadata == {"region": "mono", "fingerprint": wanted.fingerprint}
    assert (job.hyperparameters.n_epochs, job.seed, job.model) == (3, 5, "tiny-text")


def test_a_cancelled_job_is_not_taken_for_the_result(client: openai.OpenAI, uploaded: UploadedFile) -> None:
    first = fine_tuning.submit_once(client, job_request(training_file=uploaded))
    client.fine_tuning.jobs.cancel(first.job.id)
    second = fine_tuning.submit_once(client, job_request(training_file=uploaded))
    client.fine_tuning.jobs.cancel(second.job.id)
    assert second.job.id != first.job.id and not second.reused


def test_a_job_that_is_wanted_again_is_another_job(client: openai.OpenAI, uploaded: UploadedFile) -> None:
    wanted = job_request(training_file=uploaded)
    first, again, same = (
        fine_tuning.submit_once(client, request)
        for request in (wanted, replace(wanted, attempt="run 2"), replace(wanted, attempt="run 2"))
    )
    let_go(client, first.job.id, again.job.id)
    assert first.job.id != again.job.id == same.job.id
    assert (again.reused, same.reused) == (False, True)


def test_no_more_jobs_are_open_than_allowed(client: openai.OpenAI, uploaded: UploadedFile) -> None:
    n_open = len(fine_tuning.open_jobs(client))
    with pytest.raises(NoFreePlaceError, match=f"at most {max(n_open, 1)} may be"):
        for seed in range(3):
            wanted = job_request(training_file=uploaded, method=Method(n_epochs=1, seed=seed))
            fine_tuning.submit_once(client, wanted, max_open=max(n_open, 1))
    let_go(client, *jobs_of(client, uploaded))
    assert len(jobs_of(client, uploaded)) <= 1


def test_a_job_that_may_not_be_is_not_asked_for_and_one_that_is_there_costs_nothing(provider: ScriptedProvider) -> None:
    def refuse() -> None:
        raise OverBudgetError("too much")

    provider.contents["file-1"] = b""
    client = provider.client()
    with pytest.raises(OverBudgetError):
        fine_tuning.submit_once(client, job_request(), before=refuse)
    assert not provider.jobs
    fine_tuning.submit_once(client, job_request())
    assert fine_tuning.submit_once(client, job_request(), before=refuse).reused


def test_a_provider_that_keeps_no_metadata_is_asked_once_too(provider: ScriptedProvider) -> None:
    provider.unknown_parameters = {"metadata", "seed"}
    provider.contents["file-1"] = b""
    client = provider.client()
    first, again = (fine_tuning.submit_once(client, job_request()) for _ in range(2))
    other = fine_tuning.submit_once(client, job_request(method=Method(n_epochs=2)))
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.job.id == again.job.id != other.job.id
    assert [note.split(": ", 1)[1] for note in first.notes] == [
        "the job is found again by its files and settings alone.",
        "training cannot be repeated exactly.",
    ]


def test_a_provider_of_the_older_way_gets_the_hyperparameters_so(provider: ScriptedProvider) -> None:
    provider.unknown_parameters = {"method"}
    provider.contents["file-1"] = b""
    job = fine_tuning.submit_once(provider.client(), job_request()).job
    assert job.hyperparameters.n_epochs == 1


def test_a_provider_without_methods_makes_no_other_job_of_one_of_reinforcement(provider: ScriptedProvider) -> None:
    provider.unknown_parameters = {"method"}
    graded = job_request(method=Method(type="reinforcement"), grader={"type": "multi"})
    with pytest.raises(ProviderError):
        fine_tuning.submit_once(provider.client(), graded)
    assert not provider.jobs
    assert graded.fingerprint != job_request(method=Method(type="reinforcement")).fingerprint
    assert "grader" in graded.to_dict()
    assert "grader" not in job_request().to_dict()


@pytest.mark.parametrize("line", [LosesAnswers, NeverArrives])
def test_a_broken_line_leaves_exactly_one_job(
    server: ServerProcess, client: openai.OpenAI, uploaded: UploadedFile, line: type[LosesAnswers | NeverArrives]
) -> None:
    job = fine_tuning.submit_once(client_over(server, line()), job_request(training_file=uploaded)).job
    let_go(client, job.id)
    assert jobs_of(client, uploaded) == [job.id]


def test_a_run_that_died_before_the_answer_finds_its_job_again(
    server: ServerProcess, client: openai.OpenAI, uploaded: UploadedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(time, "sleep", die)
        fine_tuning.submit_once(client_over(server, LosesAnswers()), job_request(training_file=uploaded))
    found = fine_tuning.submit_once(client, job_request(training_file=uploaded))
    let_go(client, found.job.id)
    assert found.reused
    assert jobs_of(client, uploaded) == [found.job.id]


def test_a_refused_job_is_explained(client: openai.OpenAI, uploaded: UploadedFile) -> None:
    with pytest.raises(ProviderError, match=r"answered 400: .*no-such-model"):
        fine_tuning.submit_once(client, job_request(training_file=uploaded, model="no-such-model"))


def test_progress_is_the_newest_step(provider: ScriptedProvider) -> None:
    provider.add_job("ftjob-1", "running", estimated_finish=1_800_000_100)
    provider.add_step("ftjob-1", step=1, total_steps=9, train_loss=2.0)
    provider.add_step("ftjob-1", step=2, total_steps=9, train_loss=1.0, valid_loss=1.1)
    client = provider.client()
    found = fine_tuning.progress(client, fine_tuning.retrieve(client, "ftjob-1"))
    assert found == Progress("running", 2, 9, 1.0, 1.1, 1_800_000_100)
    assert str(found) == "running, step 2 of 9, training loss 1.0000, validation loss 1.1000"


def test_a_waiting_job_costs_no_second_request(provider: ScriptedProvider) -> None:
    provider.add_job("ftjob-1", "queued")
    client = provider.client()
    assert str(fine_tuning.progress(client, fine_tuning.retrieve(client, "ftjob-1"))) == "queued"
    assert provider.asked["events"] == 0


def test_jobs_are_looked_for_no_further_than_the_oldest_one_asked_for(provider: ScriptedProvider) -> None:
    for number in range(500):
        provider.add_job(f"ftjob-{number}")
    found = fine_tuning.find_jobs(provider.client(), {"ftjob-499", "ftjob-350"})
    assert (set(found.standing), found.stopped_after) == ({"ftjob-499", "ftjob-350"}, None)
    # Newest first, 100 a page: number 350 is the 150th.
    assert provider.asked == {"list": 2}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"code": "exceeded_quota", "message": "no money", "param": None}, "no money (exceeded_quota)"),
        ({"code": None, "message": None, "param": None}, "the provider gave no reason; the job is failed"),
        (None, "the provider gave no reason; the job is failed"),
    ],
)
def test_a_failure_is_told_in_the_provider_s_words(
    provider: ScriptedProvider, error: dict[str, Any] | None, words: str
) -> None:
    provider.add_job("ftjob-1", "failed", error=error)
    assert fine_tuning.failure_reason(fine_tuning.retrieve(provider.client(), "ftjob-1")) == words
