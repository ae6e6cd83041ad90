from pathlib import Path

import pytest

from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, user

ANSWER = b'{"role": "assistant", "content": "Yes"}'


@pytest.mark.parametrize(
    "line",
    [
        b'{"messages": [], "messages": [{"role": "user", "content": "Wet?"}, ' + ANSWER + b"]}",
        b'{"messages": [{"role": "system", "role": "user", "content": "Wet?"}, ' + ANSWER + b"]}",
        b'{"messages" : [{"role" : "user", "content": "No", "content" : "Wet?"}, ' + ANSWER + b"]}",
    ],
)
def test_a_key_that_stands_twice_in_an_object_is_an_error(tmp_path: Path, line: bytes) -> None:
    report = checked(tmp_path, line)
    assert codes(report) == [(11, "duplicate_key")]
    assert report.n_examples == 10


def test_texts_that_look_like_keys_are_none(tmp_path: Path) -> None:
    said = '{"role": "user", "role": "user"}'
    assert codes(checked(tmp_path, chat(user(said), assistant(said, weight=1)))) == []


@pytest.mark.parametrize("count", [101, 1000])
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_what_is_nested_too_deep_to_be_looked_at_is_an_error(
    tmp_path: Path, count: int, begin: bytes, end: bytes
) -> None:
    deep = begin * count + b"1" + end * count
    tools = b'[{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": ' + deep + b"}}}}]"
    usual = b'{"messages": [{"role": "user", "content": "Wet?"}, ' + ANSWER + b"], "
    report = checked(tmp_path, usual + b'"tools": ' + tools + b"}", usual + b'"more": ' + deep + b"}")
    assert codes(report) == [(11, "nested_too_deep"), (12, "nested_too_deep")]


def test_contents_and_arguments_that_are_nested_deep_are_errors_too(tmp_path: Path) -> None:
    deep = b"[" * 1000 + b"]" * 1000
    content = b'{"messages": [{"role": "user", "content": ' + deep + b"}, " + ANSWER + b"]}"
    function = {"name": "f", "arguments": '{"x": ' + deep.decode() + "}"}
    made = assistant(None, tool_calls=[{"id": "c1", "type": "function", "function": function}])
    parameters = {"properties": {"x": {"type": "array", "items": {"type": "string"}}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    report = checked(tmp_path, content, chat(user(), made, tools=tools))
    assert codes(report) == [(11, "invalid_part"), (12, "invalid_argument")]
