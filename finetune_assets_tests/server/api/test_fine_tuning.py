"""/v1/fine_tuning/jobs over HTTP, through the unmodified SDK; training is real."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import openai
import psutil
import pytest
from openai.types.fine_tuning import FineTuningJob

from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.server.conftest import let_go, training_lines, upload, wait
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("training")

WANDB: Any = {"type": "wandb", "wandb": {"project": "solar", "tags": ["a", "b"]}}
STEP = re.compile(
    r"Step (\d+)/(\d+): training loss=\d+\.\d\d(, validation loss=\d+\.\d\d)?(, full validation loss=\S+)?"
)


@pytest.fixture(scope="session")
def training_file(server: ServerProcess) -> str:
    return upload(server.client(), training_lines())


def test_a_finished_job_tells_all_about_itself(finished: FineTuningJob) -> None:
    job = finished
    assert job.status == "succeeded"
    assert job.model == "gpt-4o-mini"
    assert re.fullmatch(r"ft:gpt-4o-mini:local:Says-yes-:[A-Za-z0-9]{8}", job.fine_tuned_model or "")
    assert (job.error, job.estimated_finish) == (None, None)
    assert job.finished_at is not None
    assert job.created_at <= job.finished_at
    assert job.metadata == {"made_for": "the tests"}
    assert job.seed == 7
    # "auto" has become a number: one example a step for so little data.
    assert job.hyperparameters.to_dict() == {"n_epochs": 4, "batch_size": 1, "learning_rate_multiplier": 20.0}
    assert job.method is not None
    assert job.method.supervised is not None


def test_trained_tokens_are_the_tokens_of_all_epochs(finished: FineTuningJob) -> None:
    assert finished.trained_tokens is not None
    # 12 examples of some 20 tokens (two digits, where there are two, are two tokens), four times
    assert finished.trained_tokens % 4 == 0
    assert 12 * 15 * 4 < finished.trained_tokens < 12 * 40 * 4


def test_events_tell_the_story_in_the_words_of_openai(client: openai.OpenAI, finished: FineTuningJob) -> None:
    events = list(client.fine_tuning.jobs.list_events(finished.id, limit=7))[::-1]
    told = [event.message for event in events]
    assert told[:4] == [
        f"Created fine-tuning job: {finished.id}",
        f"Validating training file: {finished.training_file} and validation file: {finished.validation_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
    ]
    steps = [message for message in told if message.startswith("Step ")]
    assert [int(message.split()[1].split("/")[0]) for message in steps] == list(range(1, 49))
    assert all(STEP.fullmatch(message) for message in steps)
    name = finished.fine_tuned_model
    assert told[-3:] == [
        f"Checkpoint created at step 48 with Snapshot ID: {name}:ckpt-step-48",
        f"New fine-tuned model created: {name}",
        "The job has successfully completed",
    ]


def test_metrics_events_carry_the_numbers(client: openai.OpenAI, finished: FineTuningJob) -> None:
    events = list(client.fine_tuning.jobs.list_events(finished.id, limit=100))[::-1]
    metrics: list[Any] = [event.data for event in events if event.type == "metrics"]
    assert len(metrics) == 48
    assert set(metrics[0]) == {"step", "total_steps", "train_loss", "train_mean_token_accuracy"}
    assert set(metrics[-1]) == {
        "step", "total_steps", "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy",
        "full_valid_loss", "full_valid_mean_token_accuracy",
    }  # fmt: skip
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"] / 2
    assert all(event.data is None for event in events if event.type == "message")


def test_checkpoints_are_those_of_the_last_three_epochs(client: openai.OpenAI, finished: FineTuningJob) -> None:
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(finished.id, limit=2))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [48, 36, 24]
    name = f"{finished.fine_tuned_model}:ckpt-step-36"
    assert checkpoints[1].fine_tuned_model_checkpoint == name
    metrics = checkpoints[1].metrics
    assert metrics.step == 36
    assert metrics.full_valid_loss is not None
    page = client.fine_tuning.jobs.checkpoints.list(finished.id, limit=2, after=checkpoints[1].id)
    assert [checkpoint.id for checkpoint in page.data] == [checkpoints[2].id]
    assert not page.has_more


def test_the_result_file_has_a_line_for_each_step(client: openai.OpenAI, finished: FineTuningJob) -> None:
    [file_id] = finished.result_files
    assert client.files.retrieve(file_id).purpose == "fine-tune-results"
    rows = list(csv.DictReader(io.StringIO(client.files.content(file_id).text)))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [int(row["step"]) for row in rows] == list(range(1, 49))
    assert rows[0]["valid_loss"] == ""
    assert float(rows[-1]["valid_loss"]) > 0
    assert float(rows[-1]["train_accuracy"]) == 1.0


def test_a_fine_tuned_model_can_be_fine_tuned_again(
    client: openai.OpenAI, finished: FineTuningJob, finished_again: FineTuningJob
) -> None:
    assert finished_again.model == finished.fine_tuned_model
    # Named after the base model below both.
    assert re.fullmatch(r"ft:gpt-4o-mini:local::[A-Za-z0-9]{8}", finished_again.fine_tuned_model or "")
    events = client.fine_tuning.jobs.list_events(finished_again.id, limit=100).data
    steps: Any = [event.data for event in events if event.type == "metrics"]
    # It begins with what the first training had learned; untrained, the loss is above 5.
    assert steps[-1]["step"] == 1
    assert steps[-1]["train_loss"] < 2


def test_bad_data_fails_the_job_naming_line_and_field(client: openai.OpenAI) -> None:
    lines = training_lines().splitlines()
    lines[4] = lines[4].replace(b'"Yes"', b'""')
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=upload(client, b"\n".join(lines)))
    assert job.status == "validating_files"
    job = wait(client, job.id)
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "line 5: " in job.error.message
    assert "messages[1].content" in job.error.message
    assert client.fine_tuning.jobs.list_events(job.id).data[0].level == "error"
    assert (job.fine_tuned_model, job.trained_tokens, job.result_files) == (None, None, [])


def test_a_bad_validation_file_is_the_one_that_is_blamed(client: openai.OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="tiny-text", training_file=training_file, validation_file=upload(client, b"not json")
    )
    job = wait(client, job.id)
    assert job.error is not None
    assert job.error.param == "validation_file"


def test_too_few_examples_have_a_code_of_their_own(client: openai.OpenAI) -> None:
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=upload(client, training_lines(9)))
    job = wait(client, job.id)
    assert job.error is not None
    assert job.error.code == "invalid_n_examples"


def test_a_file_deleted_before_its_validation_fails_the_job(client: openai.OpenAI) -> None:
    # The file of the first job keeps the validator busy while that of the second is deleted.
    first = client.fine_tuning.jobs.create(model="tiny-text", training_file=upload(client, training_lines(5000)))
    file = upload(client, training_lines())
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=file)
    client.files.delete(file)
    job = wait(client, job.id)
    let_go(client, first.id)
    assert job.error is not None
    assert file in job.error.message


def test_a_running_job_can_be_cancelled_once(server: ServerProcess, client: openai.OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=training_file)
    wait(client, job.id, "running")
    processes = server.workers()
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="already cancelled"):
        client.fine_tuning.jobs.cancel(job.id)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.finished_at is not None
    assert (job.fine_tuned_model, job.estimated_finish) == (None, None)
    assert processes
    assert psutil.wait_procs(processes, timeout=PATIENCE_S)[1] == []


def lenient(server: ServerProcess) -> openai.OpenAI:
    """The SDK as it comes: a strict one refuses the state "paused", which OpenAI's own types do not know."""
    return openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0)


def test_a_paused_job_ends_its_process_and_goes_on_when_it_is_resumed(
    server: ServerProcess, client: openai.OpenAI, training_file: str
) -> None:
    jobs = lenient(server).fine_tuning.jobs
    job = jobs.create(model="tiny-text", training_file=training_file, hyperparameters={"n_epochs": 2, "batch_size": 4})
    wait(client, job.id, "running")
    processes = server.workers()
    paused = jobs.pause(job.id)
    assert (paused.status, paused.estimated_finish, paused.finished_at) == ("paused", None, None)
    with pytest.raises(openai.BadRequestError, match="is already paused and cannot be paused"):
        jobs.pause(job.id)
    assert psutil.wait_procs(processes, timeout=PATIENCE_S)[1] == []
    assert jobs.retrieve(job.id).status == "paused"
    assert jobs.resume(job.id).status == "queued"
    with pytest.raises(openai.BadRequestError, match="cannot be resumed"):
        jobs.resume(job.id)
    assert wait(client, job.id).status == "succeeded"


def test_a_paused_job_can_be_cancelled(server: ServerProcess, training_file: str) -> None:
    jobs = lenient(server).fine_tuning.jobs
    job = jobs.create(model="tiny-text", training_file=training_file)
    jobs.pause(job.id)
    assert jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is already cancelled and cannot be resumed"):
        jobs.resume(job.id)


def test_a_job_of_preferences_tells_its_method(client: openai.OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="tiny-text",
        training_file=training_file,
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}}},
        integrations=[WANDB],
    )
    let_go(client, job.id)
    chosen = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert job.method is not None
    assert job.method.to_dict() == {"type": "dpo", "dpo": {"hyperparameters": chosen | {"beta": 0.2}}}
    assert job.hyperparameters.to_dict() == chosen
    assert [integration.to_dict() for integration in job.integrations or []] == [WANDB]


def test_a_method_may_be_named_alone(client: openai.OpenAI, training_file: str) -> None:
    for kind in ("supervised", "dpo"):
        job = client.fine_tuning.jobs.create(model="tiny-text", training_file=training_file, method={"type": kind})
        let_go(client, job.id)
        assert job.method is not None
        options: Any = getattr(job.method, kind)
        assert set(options.hyperparameters.to_dict().values()) == {"auto"}


@pytest.mark.parametrize(
    "mark",
    [
        {"extra_headers": {"Idempotency-Key": "key of this test"}},
        {"metadata": {"fingerprint": "of this test"}},
        {"extra_headers": {"x-stainless-retry-count": "1"}, "suffix": "retried"},
    ],
)
def test_a_repeated_request_starts_one_job(client: openai.OpenAI, training_file: str, mark: dict[str, Any]) -> None:
    request: dict[str, Any] = {"model": "tiny-text", "training_file": training_file} | mark
    job = client.fine_tuning.jobs.create(**request)
    assert client.fine_tuning.jobs.create(**request).id == job.id
    let_go(client, job.id)


def test_a_key_cannot_be_used_for_another_request(client: openai.OpenAI, training_file: str) -> None:
    headers = {"Idempotency-Key": "used twice"}
    request: dict[str, Any] = {"model": "tiny-text", "training_file": training_file, "extra_headers": headers}
    let_go(client, client.fine_tuning.jobs.create(**request).id)
    with pytest.raises(openai.BadRequestError, match="'used twice' came with another request") as refused:
        client.fine_tuning.jobs.create(**request, seed=1)
    assert refused.value.code == "idempotency_key_reused"


def test_a_job_whose_worker_is_killed_goes_on_and_says_so(
    server: ServerProcess, client: openai.OpenAI, training_file: str
) -> None:
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=training_file)
    wait(client, job.id, "running")
    for process in server.workers():
        process.kill()
    job = wait(client, job.id)
    assert job.status == "succeeded"
    [told] = [event for event in client.fine_tuning.jobs.list_events(job.id, limit=100) if "SIGKILL" in event.message]
    assert told.level == "warn"
    assert f"{job.id}.log" in told.message
    assert "back in the queue" in told.message
    assert "(attempt 1 of 10)" in told.message


def test_a_finished_job_cannot_be_cancelled(client: openai.OpenAI, finished: FineTuningJob) -> None:
    with pytest.raises(openai.BadRequestError, match="already succeeded"):
        client.fine_tuning.jobs.cancel(finished.id)
    assert client.fine_tuning.jobs.retrieve(finished.id).status == "succeeded"


def test_jobs_are_listed_by_their_metadata(client: openai.OpenAI, training_file: str) -> None:
    def create(metadata: dict[str, str] | None) -> str:
        job = client.fine_tuning.jobs.create(model="tiny-text", training_file=training_file, metadata=metadata)
        return client.fine_tuning.jobs.cancel(job.id).id

    made = [create({"list": "me", "n": str(i)}) for i in range(3)]
    bare = create(None)
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"list": "me"}, limit=2)] == made[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"list": "me", "n": "1"})] == [made[1]]
    assert client.fine_tuning.jobs.list(metadata={"list": "you"}).data == []
    without = client.fine_tuning.jobs.list(extra_query={"metadata": "null"}).data
    assert without[0].id == bare
    assert all(not job.metadata for job in without)


@pytest.mark.parametrize(
    ("parameters", "param", "code"),
    [
        ({"model": "gpt-99"}, "model", "model_not_available"),
        ({"training_file": "file-none"}, "training_file", "file_not_found"),
        ({"validation_file": "file-none"}, "validation_file", "file_not_found"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised", "invalid_value"),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}},
            "method.dpo.hyperparameters.beta",
            "decimal_below_min_value",
        ),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 2.1}}}},
            "method.dpo.hyperparameters.beta",
            "decimal_above_max_value",
        ),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"beta": 0.1}}}},
            "method.supervised.hyperparameters.beta",
            "unknown_parameter",
        ),
        ({"integrations": [WANDB] * 6}, "integrations", "array_above_max_length"),
        (
            {"integrations": [{"type": "wandb", "wandb": {}}]},
            "integrations[0].wandb.project",
            "missing_required_parameter",
        ),
        ({"extra_headers": {"Idempotency-Key": "k" * 256}}, "Idempotency-Key", "string_above_max_length"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "integer_below_min_value"),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size", "integer_above_max_value"),
        ({"hyperparameters": {"early_stopping_patience": 2}}, "hyperparameters", "invalid_value"),
        ({"hyperparameters": {"lora_dropout": 1}}, "hyperparameters.lora_dropout", "decimal_above_max_value"),
        ({"hyperparameters": {"packing": "often"}}, "hyperparameters.packing", "invalid_type"),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"packing": True}}}},
            "hyperparameters",
            "unsupported_value",
        ),
        ({"extra_body": {"hyperparameters": {"train_vision_tower": True}}}, "hyperparameters", "invalid_value"),
        ({"suffix": "x" * 65}, "suffix", "string_above_max_length"),
        ({"seed": 2**31}, "seed", "integer_above_max_value"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_parameter"),
    ],
)
def test_a_wrong_request_is_refused_naming_the_parameter(
    client: openai.OpenAI, training_file: str, parameters: dict[str, Any], param: str, code: str
) -> None:
    request: dict[str, Any] = {"model": "tiny-text", "training_file": training_file}
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(**(request | parameters))
    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_file_of_another_purpose_cannot_be_trained_on(client: openai.OpenAI) -> None:
    file = client.files.create(file=training_lines(), purpose="batch")
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model="tiny-text", training_file=file.id)
    assert refused.value.param == "training_file"


def test_an_unknown_job_is_not_found_in_the_words_of_openai(client: openai.OpenAI) -> None:
    jobs = client.fine_tuning.jobs
    for action in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError, match="Could not find fine tune: ftjob-none") as refused:
            action("ftjob-none")
        assert (refused.value.param, refused.value.code) == ("fine_tune_id", "fine_tune_not_found")
