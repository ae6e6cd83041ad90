"""Broken requests, explained in the words, params and codes that OpenAI uses."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.api.chat_request import ChatBody
from finetune_assets.server.api.job_format import JobBody
from finetune_assets.server.api.request_errors import Problem, explain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HELLO = [{"role": "user", "content": "hello"}]


def problem(model: type[pydantic.BaseModel], body: Any) -> Problem:
    """What the server would say about the body."""
    with pytest.raises(pydantic.ValidationError) as invalid:
        model.model_validate(body)
    return explain([{**error, "loc": ("body", *error["loc"])} for error in invalid.value.errors()], body)


def chat(**parameters: Any) -> Problem:
    return problem(ChatBody, {"model": "m", "messages": HELLO} | parameters)


def job(**parameters: Any) -> Problem:
    return problem(JobBody, {"model": "m", "training_file": "file-t"} | parameters)


@pytest.mark.parametrize(
    ("found", "param", "code", "message"),
    [
        (chat(n=129), "n", "integer_above_max_value",
         "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 129 instead."),
        (chat(temperature=2.5), "temperature", "decimal_above_max_value",
         "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.5 instead."),
        (chat(max_tokens="5"), "max_tokens", "invalid_type",
         "Invalid type for 'max_tokens': expected an integer, but got a string instead."),
        (chat(messages=[]), "messages", "empty_array",
         "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."),
        (chat(stop=["a"] * 5), "stop", "array_above_max_length",
         "Invalid 'stop': array too long. Expected an array with maximum length 4, "
         "but got an array with length 5 instead."),
        (chat(messages=[{"content": "x"}]), "messages[0].role", "missing_required_parameter",
         "Missing required parameter: 'messages[0].role'."),
        (chat(messages=[{"role": "king", "content": "x"}]), "messages[0].role", "invalid_value",
         "Invalid value: 'king'. Supported values are: 'developer', 'system', 'user', 'assistant' or 'tool'."),
        (chat(messages=[{"role": "user", "content": 3}]), "messages[0].content", "invalid_type",
         "Invalid type for 'messages[0].content': expected a string or an array, but got an integer instead."),
        (chat(messages=[{"role": "user", "content": [{"type": "text", "text": True}]}]),
         "messages[0].content[0].text", "invalid_type",
         "Invalid type for 'messages[0].content[0].text': expected a string, but got a boolean instead."),
        (chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"link": "x"}}]}]),
         "messages[0].content[0].image_url.url", "missing_required_parameter",
         "Missing required parameter: 'messages[0].content[0].image_url.url'."),
        (job(suffix="x" * 65), "suffix", "string_above_max_length",
         "Invalid 'suffix': string too long. Expected a string with maximum length 64, "
         "but got a string with length 65 instead."),
        (job(suffix=""), "suffix", "empty_string",
         "Invalid 'suffix': empty string. Expected a string with minimum length 1, but got an empty string instead."),
        (job(colour="red"), "colour", "unknown_parameter", "Unknown parameter: 'colour'."),
        (job(hyperparameters={"n_epochs": 51}), "hyperparameters.n_epochs", "integer_above_max_value",
         "Invalid 'hyperparameters.n_epochs': integer above maximum value. "
         "Expected a value <= 50, but got 51 instead."),
        (job(hyperparameters={"n_epochs": "many"}), "hyperparameters.n_epochs", "invalid_type",
         "Invalid type for 'hyperparameters.n_epochs': expected an integer, but got a string instead."),
        (job(hyperparameters={"learning_rate_multiplier": 0}), "hyperparameters.learning_rate_multiplier",
         "decimal_below_min_value",
         "Invalid 'hyperparameters.learning_rate_multiplier': decimal below minimum value. "
         "Expected a value > 0, but got 0 instead."),
        (job(metadata={str(i): "" for i in range(17)}), "metadata", "object_above_max_properties",
         "Invalid 'metadata': object too long. Expected an object with maximum number of properties 16, "
         "but got an object with number of properties 17 instead."),
        (job(metadata={"k": "v" * 513}), "metadata.k", "string_above_max_length",
         "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, "
         "but got a string with length 513 instead."),
        (problem(JobBody, [1]), None, None, "The body of the request must be a JSON object."),
        (problem(JobBody, {}), "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    ],
)  # fmt: skip
def test_a_problem_is_told_as_openai_does(found: Problem, param: str, code: str, message: str) -> None:
    assert found == Problem(message, param, code)


@given(body=st.dictionaries(st.sampled_from([*ChatBody.model_fields, *JobBody.model_fields, "x"]), JSON) | JSON)
def test_whatever_is_sent_gets_an_explanation(body: Any) -> None:
    for model in (ChatBody, JobBody):
        try:
            model.model_validate(body)
        except pydantic.ValidationError as invalid:
            errors = [{**error, "loc": ("body", *error["loc"])} for error in invalid.errors()]
            explained = explain(errors, body)
            assert explained.message
            assert explained.param != ""
