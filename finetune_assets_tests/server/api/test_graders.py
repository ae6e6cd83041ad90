"""/v1/fine_tuning/alpha/graders through the unmodified SDK, which validates every answer."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pytest

from finetune_assets_tests.server.networks import data_url, picture

CHECK: dict[str, Any] = {
    "type": "string_check", "name": "right", "input": "{{sample.output_text}}", "reference": "{{item.label}}",
    "operation": "eq",
}  # fmt: skip
SCORE: dict[str, Any] = {
    "type": "score_model", "name": "judge", "model": "tiny-text",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "How good is {{sample.output_text}}?"}]}],
    "sampling_params": {"temperature": 0, "max_completions_tokens": 3},
}  # fmt: skip
MULTI: dict[str, Any] = {
    "type": "multi", "graders": {"a": CHECK, "b": CHECK | {"operation": "ilike"}}, "calculate_output": "(a + b) / 2",
}  # fmt: skip


def test_a_check_is_run_on_an_answer_and_an_item(client: openai.OpenAI) -> None:
    right = client.fine_tuning.alpha.graders.run(grader=CHECK, item={"label": "Yes"}, model_sample="Yes")  # pyright: ignore[reportArgumentType]
    assert (right.reward, right.metadata.name, right.metadata.type) == (1, "right", "string_check")
    assert (right.sub_rewards, right.metadata.token_usage) == ({}, None)
    assert not any(value for name, value in right.metadata.errors if name.endswith("error"))
    wrong = client.fine_tuning.alpha.graders.run(grader=CHECK, model_sample="Yes")  # pyright: ignore[reportArgumentType]
    assert (wrong.reward, wrong.metadata.errors.invalid_variable_error) == (0, True)


def test_several_are_run_with_the_reward_of_each(client: openai.OpenAI) -> None:
    run: Any = client.fine_tuning.alpha.graders.run
    found = run(grader=MULTI, item={"label": "Yes"}, model_sample="yes")
    assert (found.reward, found.sub_rewards, found.metadata.name) == (0.5, {"a": 0, "b": 1}, "multi")


def test_a_model_of_the_server_scores_and_its_tokens_are_counted(client: openai.OpenAI) -> None:
    run: Any = client.fine_tuning.alpha.graders.run
    found = run(grader=SCORE, model_sample="this")
    assert found.metadata.errors.api_model_grader_parse_error
    assert found.metadata.sampled_model_name == "tiny-text"
    used = found.api_model_grader_token_usage_per_model["tiny-text"]
    assert used["completion_tokens"] == 3
    assert found.metadata.token_usage == used["total_tokens"] == used["prompt_tokens"] + 3
    scored = run(grader=SCORE | {"sampling_params": {"seed": 0}, "range": [-1, 1]}, model_sample="this")
    assert -1 <= scored.reward <= 1


def test_what_cannot_be_asked_is_told_in_the_grade(client: openai.OpenAI) -> None:
    shown = {"type": "input_image", "image_url": "{{item.image}}"}
    run: Any = client.fine_tuning.alpha.graders.run
    grader = SCORE | {"input": [{"role": "user", "content": [shown]}]}
    for image, told in ((data_url(picture("red")), "takes no images"), ("x", "expected a data URL")):
        found = run(grader=grader, item={"image": image}, model_sample="this")
        assert (found.reward, found.metadata.errors.api_model_grader_server_error) == (0, True)
        assert told in found.metadata.errors.api_model_grader_server_error_details


def test_a_grader_is_validated_and_sent_back(client: openai.OpenAI) -> None:
    validate: Any = client.fine_tuning.alpha.graders.validate
    for grader in (CHECK, SCORE, MULTI | {"name": "both", "graders": CHECK, "calculate_output": "right"}):
        assert validate(grader=grader).grader.model_dump(exclude_unset=True) == grader
    # Graders by name, as the guide has them, are in no type of the SDK, which would refuse to read them.
    raw = client.fine_tuning.alpha.graders.with_raw_response.validate(grader=MULTI)  # pyright: ignore[reportArgumentType]
    assert orjson.loads(raw.content)["grader"] == MULTI | {"name": "multi"}


@pytest.mark.parametrize(
    ("grader", "param", "code"),
    [
        ({}, "grader.type", "missing_required_parameter"),
        ({"type": "exam"}, "grader.type", "invalid_value"),
        (CHECK | {"operation": "neq"}, "grader.operation", "invalid_value"),
        ({**CHECK, "reference": 1}, "grader.reference", "invalid_type"),
        (CHECK | {"x": 1}, "grader.x", "unknown_parameter"),
        (CHECK | {"input": "{{item}}"}, "grader.input", "invalid_value"),
        ({"type": "python", "name": "p", "source": "def grade(s, i): return 1"}, "grader.type", "unsupported_value"),
        ({"type": "label_model", "name": "l"}, "grader.type", "unsupported_value"),
        (
            CHECK | {"type": "text_similarity", "evaluation_metric": "meteor", "operation": None},
            "grader.operation",
            "unknown_parameter",
        ),
        (SCORE | {"model": "gpt-99"}, "grader.model", "model_not_found"),
        (SCORE | {"range": [0]}, "grader.range", "array_below_min_length"),
        (SCORE | {"sampling_params": {"top_p": 2}}, "grader.sampling_params.top_p", "decimal_above_max_value"),
        (MULTI | {"calculate_output": "a + c"}, "grader.calculate_output", "invalid_value"),
        (MULTI | {"graders": {}}, "grader.graders", "empty_object"),
        (MULTI | {"graders": [CHECK]}, "grader.graders", "invalid_type"),
        (MULTI | {"graders": {"a": CHECK | {"input": 1}}}, "grader.graders.a.input", "invalid_type"),
        (MULTI | {"graders": {"a": MULTI}}, "grader.graders.a.type", "invalid_value"),
        (
            MULTI | {"graders": {"a": SCORE | {"model": "x"}}, "calculate_output": "a"},
            "grader.graders.a.model",
            "model_not_found",
        ),
        (MULTI | {"graders": {"a": {"type": "python"}}}, "grader.graders.a.type", "unsupported_value"),
    ],
)
def test_a_wrong_grader_is_refused_naming_the_parameter(
    client: openai.OpenAI, grader: dict[str, Any], param: str, code: str
) -> None:
    run: Any = client.fine_tuning.alpha.graders.run
    validate: Any = client.fine_tuning.alpha.graders.validate
    for ask in (lambda: run(grader=grader, model_sample="x"), lambda: validate(grader=grader)):
        with pytest.raises(openai.BadRequestError) as refused:
            ask()
        assert (refused.value.param, refused.value.code) == (param, code)
