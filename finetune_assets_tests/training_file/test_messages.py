from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.training_file.messages import Call, Message, read_message
from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, image, text, user

FUNCTION = {"name": "look_up", "parameters": {"type": "object", "required": ["word"], "properties": {"word": {}}}}
TOOLS = [{"type": "function", "function": FUNCTION}]


def calls(name: str = "look_up", arguments: str = '{"word": "copper"}') -> dict[str, Any]:
    return {"tool_calls": [{"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}]}


def older(name: str = "look_up", arguments: str = '{"word": "copper"}') -> dict[str, Any]:
    return {"function_call": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("made", [calls, older])
@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_call_is_looked_at_with_and_without_content(tmp_path: Path, made: Any, content: dict[str, Any]) -> None:
    def talk(*called: Any) -> dict[str, Any]:
        return chat(user(str(called)), {"role": "assistant", **content, **made(*called)}, tools=TOOLS)

    found = checked(tmp_path, talk("other"), talk("look_up", "{}"), talk("look_up", "{"))
    assert codes(found) == [(13, "invalid_tool_call"), (11, "undeclared_function"), (12, "missing_argument")]


@pytest.mark.parametrize("made", [calls, older])
def test_a_call_that_is_never_answered_is_told_with_and_without_content(tmp_path: Path, made: Any) -> None:
    bare = {"role": "assistant", **made()}
    talks = [
        chat(user(), said, user(f"{n}?"), assistant(), tools=TOOLS)
        for n, said in enumerate((bare, assistant(None, **made())))
    ]
    assert codes(checked(tmp_path, *talks)) == [(11, "unanswered_tool_call"), (12, "unanswered_tool_call")]


def test_messages_with_absent_null_and_empty_content_are_counted_and_compared_alike(tmp_path: Path) -> None:
    bare = {"role": "assistant", **calls()}
    lines = [chat(user(), said, tools=TOOLS) for said in (bare, bare | {"content": None}, bare | {"content": ""})]
    report = checked(tmp_path, *lines)
    assert codes(report) == [(12, "duplicate_example"), (13, "duplicate_example")]
    one, three = (checked(tmp_path, *some).tokens_total for some in (lines[:1], lines))
    without = checked(tmp_path).tokens_total
    assert three - without == 3 * (one - without)


def test_arguments_written_otherwise_are_the_same(tmp_path: Path) -> None:
    lines = [
        chat(user(), {"role": "assistant", **calls(arguments=a)}, tools=TOOLS)
        for a in ('{"word": "a"}', '{ "word":"a" }')
    ]
    assert codes(checked(tmp_path, *lines)) == [(12, "duplicate_example")]


def test_keys_that_hold_null_are_one_finding_however_many_there_are(tmp_path: Path) -> None:
    nulls = dict.fromkeys(("name", "tool_calls", "tool_call_id", "weight", "function_call"))
    lines = [chat(user(f"{n}?") | nulls, assistant(str(n)) | nulls, tools=None) for n in range(20)]
    report = checked(tmp_path, *lines)
    assert codes(report) == [(None, "null_key")]
    assert "20 lines hold null in name, tool_calls, tool_call_id, weight" in report.warnings[0].message
    assert report.n_examples == 30


def test_nulls_in_parts_images_calls_and_declarations_count_as_absent(tmp_path: Path) -> None:
    parts = [text() | {"image_url": None}, image(detail=None) | {"text": None}]
    parameters = {
        "type": "object",
        "enum": None,
        "properties": {"word": {"type": "string", "enum": None}, "unit": None},
    }
    tools = [{"type": "function", "function": {"name": "look_up", "strict": None, "parameters": parameters}}]
    called = {"role": "assistant", "refusal": None, **calls()}
    called["tool_calls"][0]["index"] = None
    assert codes(checked(tmp_path, chat(user(parts), called, tools=tools))) == [(None, "null_key")]


def test_a_schema_may_allow_null_as_a_value(tmp_path: Path) -> None:
    unit = {"enum": ["m", None], "default": None}
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"u": unit}}}}
    ]
    called = {"role": "assistant", **calls("f", '{"u": null}')}
    assert codes(checked(tmp_path, chat(user(), called, tools=tools))) == []


def test_reading_keeps_what_is_well_formed() -> None:
    found: list[tuple[str, str]] = []
    written = {"role": "assistant", "name": "a b", "content": [text("So."), 5], **calls(), "weight": 7}
    read = read_message("m", written, found)
    assert (read.texts, read.calls) == (("So.",), (Call("look_up", '{"word": "copper"}', "c1"),))
    assert [code for code, _ in found] == ["invalid_name", "invalid_weight", "invalid_part"]


def test_a_refusal_is_one_wherever_it_stands() -> None:
    in_part = read_message("m", assistant([{"type": "refusal", "refusal": "No."}]), [])
    assert (
        in_part
        == read_message("m", {"role": "assistant", "refusal": "No."}, [])
        == Message("assistant", ("No.",), refused=True)
    )


@given(
    st.dictionaries(
        st.sampled_from(
            ["role", "content", "name", "weight", "refusal", "tool_calls", "function_call", "tool_call_id"]
        ),
        st.none() | st.integers() | st.text(max_size=3) | st.lists(st.dictionaries(st.text(max_size=4), st.none())),
    )
)
def test_null_and_absent_keys_read_the_same(written: dict[str, Any]) -> None:
    found: list[tuple[str, str]] = []
    bare: list[tuple[str, str]] = []
    given = {key: value for key, value in written.items() if value is not None}
    assert read_message("m", written, found) == read_message("m", given, bare)
    assert [problem for problem in found if problem[0] != "null_key"] == bare
