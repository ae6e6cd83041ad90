import json
from pathlib import Path
from typing import Any

import pytest

from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, user

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


def call(
    name: str = "look_up", arguments: object = '{"word": "copper"}', call_id: str = "c1", kind: str = "function"
) -> dict[str, Any]:
    return {"id": call_id, "type": kind, "function": {"name": name, "arguments": arguments}}


def declared(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "look_up", "parameters": parameters}}]


def tool(call_id: object = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "a metal"}


def called(**fields: Any) -> dict[str, Any]:
    """A call in the older form."""
    return assistant(None, function_call={"name": "look_up", "arguments": "{}"}, **fields)


def answered(name: str = "look_up") -> dict[str, Any]:
    """An answer in the older form."""
    return {"role": "function", "name": name, "content": "a metal"}


@pytest.mark.parametrize(
    "messages",
    [
        (user(), assistant(None, tool_calls=[call()])),
        (user(), assistant(None, tool_calls=[call()]), tool(), assistant()),
        (user(), assistant(None, tool_calls=[call(), call(call_id="c2")]), tool("c2"), tool("c1"), assistant()),
        (user(), called()),
        (user(), called(), answered(), assistant()),
    ],
)
def test_well_formed_calls_have_no_finding(tmp_path: Path, messages: tuple[dict[str, Any], ...]) -> None:
    assert codes(checked(tmp_path, chat(*messages, tools=TOOLS))) == []


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ((user(), assistant(None, tool_calls=[])), "invalid_tool_call", "must be a list of calls"),
        ((user(), assistant(None, tool_calls=["look_up"])), "invalid_tool_call", "found the text 'look_up'"),
        ((user(), assistant(None, tool_calls=[call(call_id="")])), "invalid_tool_call", "an object with id"),
        ((user(), assistant(None, tool_calls=[call(kind="magic")])), "invalid_tool_call", '"type": "function"'),
        ((user(), assistant(None, tool_calls=[call(name="look up")])), "invalid_tool_call", "1 to 64 letters"),
        ((user(), assistant(None, tool_calls=[call(arguments={})])), "invalid_tool_call", "written as text"),
        ((user(), assistant(None, tool_calls=[call(arguments="{")])), "invalid_tool_call", "must be a JSON object"),
        (
            (user(), assistant(None, function_call={})),
            "invalid_tool_call",
            "messages[1].function_call must have a name",
        ),
        (
            (user(), assistant(None, tool_calls=[call()]), assistant()),
            "unanswered_tool_call",
            "'c1' has no answer after it",
        ),
        ((user(), tool(), assistant()), "unknown_tool_call_id", "'c1' answers no call before it"),
        ((user(), tool(None), assistant()), "unknown_tool_call_id", "must repeat the id"),
        ((user(), answered(), assistant()), "unknown_tool_call_id", "messages[1].name 'look_up' answers no call"),
        ((user(), called(), answered("other"), assistant()), "unknown_tool_call_id", "repeat the name"),
        ((user(), called(), assistant()), "unanswered_tool_call", "function_call of 'look_up' has no answer"),
        ((user(), called(tool_calls=[call()]), tool(), assistant()), "functions_and_tools", "keep tool_calls"),
    ],
)
def test_a_broken_call_is_an_error(tmp_path: Path, messages: tuple[dict[str, Any], ...], code: str, words: str) -> None:
    report = checked(tmp_path, chat(*messages, tools=TOOLS))
    assert (11, code) in codes(report)
    assert any(words in finding.message for finding in report.errors)


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ({}, "must be a list of at most 128, found an object"),
        (TOOLS * 129, "found a list of 129"),
        ([{"type": "function"}], 'tools[0] must be {"type": "function"'),
        ([{"type": "function", "function": {"name": "a b"}}], "tools[0].function.name must be 1 to 64 letters"),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}], "must be a JSON schema"),
        ([{"type": "function", "function": {"name": "f", "description": 5}}], "description must be text"),
        ([{"type": "function", "function": {"name": "f", "strict": "yes"}}], "strict must be true or false"),
        (declared({"type": "objekt"}), 'parameters.type must be "object"'),
        (declared({"properties": ["x"]}), "parameters.properties must be an object, found a list of 1"),
        (declared({"properties": {"x": {"type": "str"}}}), "parameters.properties.x.type must be one of object"),
        (declared({"properties": {"x": {}}, "required": ["y"]}), "required names 'y', which properties does not have"),
        (declared({"properties": {"x": {"enum": []}}}), "parameters.properties.x.enum must be a list of values"),
        (declared({"properties": {"x": {"items": 5}}}), "parameters.properties.x.items must be a JSON schema"),
        (declared({"properties": {"x": {"type": "array"}}}), "parameters.properties.x.items is missing"),
        (declared({"properties": {"x": {"minimum": "1"}}}), "parameters.properties.x.minimum must be a number"),
        (declared({"properties": {"x": {"anyOf": {}}}}), "parameters.properties.x.anyOf must be a list of schemas"),
        (declared({"properties": {"x": {"anyOf": [{"type": "str"}]}}}), "x.anyOf[0].type must be one of object"),
        (declared({"properties": {"x": {}}, "required": ["x", "x"]}), "required must be a list of different names"),
    ],
)
def test_a_broken_declaration_is_an_error(tmp_path: Path, tools: object, words: str) -> None:
    report = checked(tmp_path, chat(tools=tools))
    assert codes(report) == [(11, "invalid_tools")]
    assert words in report.errors[0].message


def test_a_function_that_is_not_declared_is_a_warning(tmp_path: Path) -> None:
    report = checked(tmp_path, chat(user(), assistant(None, tool_calls=[call("other")]), tools=TOOLS))
    assert codes(report) == [(11, "undeclared_function")]
    assert report.errors == []


def test_a_function_is_declared_once_and_in_one_form(tmp_path: Path) -> None:
    report = checked(
        tmp_path, chat(tools=TOOLS * 2), chat(user("Dry?"), assistant(), tools=TOOLS, functions=[{"name": "f"}])
    )
    assert codes(report) == [(11, "duplicate_function"), (12, "functions_and_tools")]


def test_two_calls_may_not_share_an_id(tmp_path: Path) -> None:
    report = checked(tmp_path, chat(user(), assistant(None, tool_calls=[call(), call()]), tool(), tools=TOOLS))
    assert (11, "duplicate_tool_call_id") in codes(report)


def test_a_call_without_a_required_argument_is_a_warning(tmp_path: Path) -> None:
    tools = declared({"properties": {"word": {}, "at": {}}, "required": ["word", "at"]})
    report = checked(tmp_path, chat(user(), assistant(None, tool_calls=[call()]), tools=tools))
    assert codes(report) == [(11, "missing_argument")]
    assert "without at, which its parameters require" in report.warnings[0].message


FORECAST = declared(
    {
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "hourly": {"type": ["boolean", "null"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
            "options": {"type": "object"},
        },
        "required": ["city"],
    }
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"city": 5}, "city must be of the type string, found a number (5)"),
        ({"city": "Rome", "unit": "kelvin"}, "unit must be one of celsius, fahrenheit, found the text 'kelvin'"),
        ({"city": "Rome", "days": "3"}, "days must be of the type integer, found the text '3'"),
        ({"city": "Rome", "days": True}, "days must be of the type integer, found true"),
        ({"city": "Rome", "days": 15}, "days must be from 1 to 14, found 15"),
        ({"city": "Rome", "hourly": "no"}, "hourly must be of the type boolean or null"),
        ({"city": "Rome", "tags": ["a", 1]}, "tags[1] must be of the type string"),
        ({"city": "Rome", "place": {"lat": "north"}}, "place.lat must be of the type number"),
        ({"city": "Rome", "place": {}}, "place lacks lat"),
        ({"city": "Rome", "when": "today"}, "when is not declared"),
    ],
)
def test_an_argument_that_breaks_its_schema_is_a_warning(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    made = call(arguments=json.dumps(arguments))
    report = checked(tmp_path, chat(user(), assistant(None, tool_calls=[made]), tools=FORECAST))
    assert (codes(report), report.errors) == ([(11, "invalid_argument")], [])
    assert words in report.warnings[0].message


def test_arguments_that_keep_to_their_schema_have_no_finding(tmp_path: Path) -> None:
    arguments = {"city": "Rome", "unit": "celsius", "days": 3.0, "hourly": None, "tags": ["a"], "place": {"lat": 4},
                 "options": {"any": 1}}  # fmt: skip
    made = call(arguments=json.dumps(arguments))
    assert codes(checked(tmp_path, chat(user(), assistant(None, tool_calls=[made]), tools=FORECAST))) == []


def test_several_calls_at_once_where_the_example_forbids_them_are_a_warning(tmp_path: Path) -> None:
    both = assistant(None, tool_calls=[call(), call(call_id="c2")])
    report = checked(tmp_path, chat(user(), both, tools=TOOLS, parallel_tool_calls=False))
    assert (codes(report), report.errors) == ([(11, "parallel_calls")], [])


def test_keys_that_calls_and_declarations_do_not_have_are_warned_of(tmp_path: Path) -> None:
    made = assistant(None, tool_calls=[{**call(), "index": 0}])
    tools = [{"type": "function", "function": {"name": "look_up", "returns": "text"}}]
    report = checked(tmp_path, chat(user(), made, tools=TOOLS), chat(user("Dry?"), assistant(), tools=tools))
    assert codes(report) == [(11, "unknown_key"), (12, "unknown_key")]
    named = [finding.message.split()[0] for finding in report.warnings]
    assert named == ["messages[1].tool_calls[0].index", "tools[0].function.returns"]


def test_the_same_question_with_other_functions_is_another_question(tmp_path: Path) -> None:
    assert codes(checked(tmp_path, chat(), chat(user(), assistant("No"), tools=TOOLS))) == []
