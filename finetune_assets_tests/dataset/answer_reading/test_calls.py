"""Calls of functions, as experts label them, chat files hold them and models make them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune_assets.dataset.answer_reading import label, parts_of, read_answer, read_call, why_no_label
from finetune_assets.task import Task
from finetune_assets.task.calls import CallAnswer
from finetune_assets_tests.pipeline.tasks import make_task

ANSWER = CallAnswer.model_validate(
    {
        "kind": "call",
        "tools": [
            {
                "name": "book",
                "parameters": {
                    "type": "object",
                    "properties": {"to": {"type": "string"}, "seats": {"type": "integer"}},
                    "required": ["to"],
                },
            },
            {"name": "cancel"},
        ],
    }
)
CALL = '{"name": "book", "arguments": {"to": "Köln", "seats": 2}}'
ARGUMENTS = {"seats": 2, "to": "Köln"}


@pytest.mark.parametrize(
    "found",
    [
        {"name": "book", "arguments": ARGUMENTS},
        json.dumps({"arguments": ARGUMENTS, "name": "book"}),
        {"name": "book", "arguments": json.dumps(ARGUMENTS)},
        [{"id": "c", "type": "function", "function": {"name": "book", "arguments": json.dumps(ARGUMENTS)}}],
    ],
)
def test_a_call_is_one_text_however_it_is_written_its_arguments_as_the_schema_has_them(found: object) -> None:
    assert read_call(found, ANSWER) == CALL
    assert label(found, ANSWER) == (CALL, None)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ("book it", "no single call"),
        ([{"name": "book"}, {"name": "cancel"}], "no single call"),
        ('{"name": "book", "arguments": {"seats": NaN}}', "no single call"),
        ('{"name": "book", "arguments": {"to": "Bonn", "seats": 1e999}}', "no single call"),
        ('{"name": "book", "arguments": {"to": "Bonn", "to": "Köln"}}', "no single call"),
        ({"name": "book", "arguments": '{"to": "Bonn", "to": "Köln"}'}, "no single call"),
        ({"name": "cancel", "parameters": {"to": "Bonn"}}, "no single call"),
        ("[" * 100_000, "no single call"),
        ({"name": "fly"}, "calls 'fly', which is none of book, cancel"),
        ({"name": "book"}, "calls 'book' without to"),
        ({"name": "book", "arguments": {"to": 3}}, "do not allow"),
        ({"name": "book", "arguments": {"to": "Bonn", "now": True}}, "now is not declared"),
    ],
)
def test_what_is_no_call_of_the_tasks_is_no_label_and_it_is_said_why(found: object, why: str) -> None:
    assert label(found, ANSWER) is None
    assert why in (why_no_label(found, ANSWER) or "")


def test_what_a_model_calls_is_read_also_where_it_is_none_of_the_tasks_functions() -> None:
    read = read_answer('{"name": "fly", "arguments": {}}', ANSWER)
    assert read is not None
    assert read.value == '{"name": "fly", "arguments": {}}'
    assert read_answer('{"name": "book", "arguments": {"to', ANSWER) is None


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())))
def test_what_is_written_is_read_again(arguments: dict[str, Any]) -> None:
    written = read_call({"name": "book", "arguments": arguments}, ANSWER)
    assert written is not None
    assert parts_of(written) == ("book", arguments)
    assert read_call(written, ANSWER) == written


@pytest.mark.parametrize(
    ("tools", "told"),
    [
        ([], "at least 1"),
        ([{"name": "a b"}], "should match"),
        ([{"name": "a"}, {"name": "a"}], "names of their own"),
        ([{"name": "a", "parameters": {"type": "string"}}], "type: object"),
        ([{"name": "a", "parameters": {"type": "object", "properties": {}, "required": ["x"]}}], "none of its prop"),
    ],
)
def test_functions_that_cannot_be_called_are_refused_in_the_yaml(tools: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        CallAnswer.model_validate({"kind": "call", "tools": tools})


def test_shots_are_for_answers_in_words() -> None:
    def made() -> Task:
        shots = {"shots": [{"question": "a?", "answer": "b"}]}
        return make_task(
            source={"kind": "table", "path": "x.csv"}, prompt=shots, answer={"kind": "call", "tools": [{"name": "a"}]}
        )

    with pytest.raises(ValidationError, match=r"prompt\.shots"):
        made()
