"""Jobs of the method `reinforcement` through the unmodified SDK: what they are told, what is refused, how one goes."""

from __future__ import annotations

import re
from typing import Any

import openai
import orjson
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import wait_until
from finetune_assets_tests.server.conftest import training_lines, upload, wait

pytestmark = pytest.mark.xdist_group("training")
CHECK: dict[str, Any] = {
    "type": "string_check", "name": "says e", "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
    "operation": "like",
}  # fmt: skip
JSON: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"a": {"enum": ["e", "o"]}}}},
}
SHORT = {"n_epochs": 1, "batch_size": 5, "max_completion_tokens": 4}


def prompts(n: int = 10, question: str = "Is {} fine?", **fields: Any) -> bytes:
    """A file of prompts whose answers must hold an e."""
    lines = [{"messages": [{"role": "user", "content": question.format(i)}], "answer": "e"} | fields for i in range(n)]
    return b"\n".join(map(orjson.dumps, lines))


def method(grader: dict[str, Any] = CHECK, **options: Any) -> dict[str, Any]:
    return {"type": "reinforcement", "reinforcement": {"grader": grader} | options}


def create(client: openai.OpenAI, content: bytes | None = None, **parameters: Any) -> Any:
    asked: Any = {"model": "tiny-text", "method": method(hyperparameters=SHORT)} | parameters
    return client.fine_tuning.jobs.create(training_file=upload(client, content or prompts()), **asked)


def method_of(job: FineTuningJob) -> Any:
    """What a job says of its method."""
    return job.to_dict()["method"]["reinforcement"]  # pyright: ignore[reportIndexIssue]


def events_of(client: openai.OpenAI, job_id: str) -> list[FineTuningJobEvent]:
    return client.fine_tuning.jobs.list_events(job_id, limit=100).data


def failure(client: openai.OpenAI, content: bytes, **parameters: Any) -> tuple[str, str]:
    job = create(client, content, **parameters)
    job = wait(client, job.id, "failed")
    assert job.error is not None
    return job.error.code, job.error.message


def test_a_job_learns_from_graded_answers_and_tells_of_rewards(client: openai.OpenAI) -> None:
    options = SHORT | {"compute_multiplier": 0.5, "eval_interval": 1, "reasoning_effort": "default"}
    asked = method(hyperparameters=options)
    job = create(client, validation_file=upload(client, prompts(4, "Is {} good?")), seed=5, method=asked)
    assert method_of(job)["grader"] == CHECK
    job = wait(client, job.id, "succeeded")
    resolved = method_of(job)["hyperparameters"]
    assert resolved == options | {"learning_rate_multiplier": 1.0, "beta": 0.0, "eval_samples": 1}
    events = list(client.fine_tuning.jobs.list_events(job.id))
    (last, *_), messages = [e for e in events if e.type == "metrics"], [event.message for event in events]
    data: Any = last.data
    assert (data["step"], data["total_steps"]) == (2, 2)
    assert data["scores"]["train_reward_mean"] == data["train_mean_reward"]
    assert data["scores"]["valid_reward_mean"] == data["full_valid_mean_reward"]
    graders = data["scores"]["graders"]
    assert [(grader["name"], grader["type"]) for grader in graders] == [("says e", "string_check")]
    assert any(message.startswith("Step 2/2, train mean reward=0.") for message in messages)
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [checkpoint.step_number for checkpoint in checkpoints] == [2, 1]
    assert checkpoints[0].metrics.to_dict()["full_valid_mean_reward"] == data["full_valid_mean_reward"]
    results = client.files.content(job.result_files[0]).text.splitlines()
    assert results[0] == "step,train_reward_mean,valid_reward_mean"
    assert len(results) == 3
    asking: Any = {"messages": [{"role": "user", "content": "Is 3 fine?"}], "max_tokens": 2}
    assert client.chat.completions.create(model=job.fine_tuned_model or "", **asking).choices


@long
def test_a_paused_job_keeps_a_checkpoint_and_goes_on_until_it_is_cancelled(client: openai.OpenAI) -> None:
    job = create(client, method=method(hyperparameters=SHORT | {"n_epochs": 50, "max_completion_tokens": 8}))
    # Not looked at by types, in which OpenAI forgot that jobs may be paused.
    path = f"/fine_tuning/jobs/{job.id}"

    def made() -> int:
        return len(client.fine_tuning.jobs.checkpoints.list(job.id).data)

    wait_until(lambda: made() > 0)
    client.post(f"{path}/pause", cast_to=object)
    wait_until(lambda: any("Training is saved and stops" in e.message for e in events_of(client, job.id)))
    client.post(f"{path}/resume", cast_to=object)
    wait_until(lambda: any("Training goes on after step" in e.message for e in events_of(client, job.id)))
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (prompts(9) + b"\n" + prompts(1, answer=None), r"line 10: it has no 'answer'"),
        (
            prompts(10).replace(b'"answer"', b'"label"', 3),
            r"line 1: it has no 'answer', which the grader looks up; line 2",
        ),
        (prompts(10, tools=[{"type": "function", "function": {"name": "f"}}]), "line 1: it declares tools"),
        (training_lines(10), "chat format"),
        (prompts(9), "10"),
    ],
    ids=["null", "another name", "tools", "answered", "too few"],
)
def test_a_file_that_cannot_be_graded_fails_the_job_naming_line_and_field(
    client: openai.OpenAI, content: bytes, told: str
) -> None:
    code, message = failure(client, content)
    assert code.startswith("invalid_")
    assert re.search(told, message), message


def test_a_model_that_cannot_think_is_not_asked_to(client: openai.OpenAI) -> None:
    _, message = failure(client, prompts(), method=method(hyperparameters={"reasoning_effort": "high"}))
    assert "the model tiny-text cannot reason with the effort 'high'" in message


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"type": "reinforcement"}, "method.reinforcement.grader", "missing_required_parameter"),
        ({"type": "reinforcement", "reinforcement": {}}, "method.reinforcement.grader", "missing_required_parameter"),
        (method({}), "method.reinforcement.grader.type", "missing_required_parameter"),
        (method({"type": "python", "name": "p"}), "method.reinforcement.grader.type", "unsupported_value"),
        (method(CHECK | {"input": "{{x}}"}), "method.reinforcement.grader.input", "invalid_value"),
        (
            method(CHECK | {"input": "{{sample.output_json.a}}"}),
            "method.reinforcement.response_format",
            "missing_required_parameter",
        ),
        (method() | {"dpo": {}}, "method.dpo", "invalid_value"),
        *(
            (method(hyperparameters={name: value}), f"method.reinforcement.hyperparameters.{name}", code)
            for name, value, code in (
                ("compute_multiplier", 11, "decimal_above_max_value"),
                ("compute_multiplier", 0, "decimal_below_min_value"),
                ("eval_interval", 2, "invalid_value"),
                ("eval_samples", 2, "invalid_value"),
                ("eval_samples", 0, "integer_below_min_value"),
                ("reasoning_effort", "minimal", "invalid_value"),
                ("gamma", 1, "unknown_parameter"),
            )
        ),
        (method(hyperparameters={"packing": True}), "hyperparameters", "unsupported_value"),
        (method(hyperparameters={"early_stopping_patience": 1}), "hyperparameters", "invalid_value"),
    ],
)
def test_a_wrong_request_is_refused_naming_the_parameter(
    client: openai.OpenAI, asked: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, method=asked)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_answers_in_json_are_looked_into(client: openai.OpenAI) -> None:
    grader = {
        "type": "multi", "name": "m", "graders": CHECK | {"name": "a", "input": "{{sample.output_json.a}}"},
        "calculate_output": "a",
    }  # fmt: skip
    job = create(client, method=method(grader, response_format=JSON, hyperparameters=SHORT))
    assert method_of(client.fine_tuning.jobs.cancel(job.id))["response_format"] == JSON
