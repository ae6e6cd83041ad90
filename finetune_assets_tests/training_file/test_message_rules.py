from pathlib import Path
from typing import Any

import pytest

from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, image, text, user

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
SYSTEM = {"role": "system", "content": "Be short."}
REFUSED = {"type": "refusal", "refusal": "I cannot say."}


@pytest.mark.parametrize(
    "example",
    [
        chat(),
        chat(SYSTEM, user(), assistant()),
        chat({"role": "developer", "content": "Be short."}, user(), assistant()),
        chat(user(), assistant("One", weight=0), user("And?"), assistant("Two", weight=1)),
        chat(user([text(), text("Really?")], name="Ada"), assistant([text("Yes")])),
        chat(user([image(detail="high"), text()]), assistant()),
        chat(user([image("https://example.com/a.png")]), assistant()),
        chat(user(), assistant([REFUSED])),
        chat(SYSTEM, user("What is it?"), user([image()]), assistant()),
        chat(user([image()]), user("What is it?"), assistant()),
        chat(
            user(),
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "name": "look_up", "content": "4"},
            assistant(),
            tools=[TOOL],
        ),
        chat(user(), assistant(), parallel_tool_calls=None, tools=[]),
        chat(
            user(),
            assistant("", tool_calls=[CALL]),
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            assistant(),
            tools=[TOOL],
            parallel_tool_calls=True,
        ),
    ],
)
def test_a_well_formed_example_has_no_finding(tmp_path: Path, example: dict[str, Any]) -> None:
    assert codes(checked(tmp_path, example)) == []


@pytest.mark.parametrize(
    ("example", "code", "words"),
    [
        ({}, "missing_messages", "no key messages (found: none)"),
        ({"text": "hi"}, "missing_messages", "found: text"),
        ({"messages": "hi"}, "invalid_messages", "must be a list, found the text 'hi'"),
        ({"messages": []}, "empty_messages", "needs a user message"),
        ({"prompt": "1+1", "completion": "2"}, "wrong_format", "old completions format"),
        ({"conversations": []}, "wrong_format", "ShareGPT"),
        (chat("hi", assistant()), "invalid_message", "messages[0] must be an object, found the text 'hi'"),
        (chat({"content": "hi"}, assistant()), "missing_role", "messages[0] has no role"),
        (chat({"role": "bot", "content": "hi"}, assistant()), "unknown_role", "found the text 'bot'"),
        (chat({"role": ["user"], "content": "hi"}, assistant()), "unknown_role", "found a list of 1"),
        (chat({"role": "user"}, assistant()), "missing_content", "messages[0].content (user) is missing or null"),
        (chat(user(), assistant(None)), "missing_content", "messages[1].content (assistant) is missing or null"),
        (chat(user(), assistant("")), "empty_content", "messages[1].content (assistant) is empty"),
        (chat(user(" \n"), assistant()), "empty_content", "messages[0].content (user) is empty"),
        (chat(user([]), assistant()), "empty_content", "is an empty list"),
        (chat(user([text(" ")]), assistant()), "empty_content", "messages[0].content[0].text is empty"),
        (chat(user(5), assistant()), "invalid_content", "must be text or a list of parts, found a number (5)"),
        (chat(user(["hi"]), assistant()), "invalid_part", "must be an object with a type"),
        (chat(user([{"type": "text", "text": 5}]), assistant()), "invalid_part", "text must be text"),
        (chat(user([{"type": "audio"}]), assistant()), "unknown_part", "must be text or image_url here, found 'audio'"),
        (chat(user([image(detail="max")]), assistant()), "invalid_detail", "auto, low or high"),
        (chat(user([image(detail=[])]), assistant()), "invalid_detail", "found a list of 0"),
        (chat(user([{"type": "image_url", "image_url": "a.png"}]), assistant()), "image_invalid", "found the text"),
        (chat(user(), assistant([image()])), "image_not_allowed", "is an image from assistant"),
        (chat(SYSTEM | {"content": [image()]}, user(), assistant()), "image_not_allowed", "only a user may send"),
        (chat(SYSTEM, user()), "missing_assistant", "end with the answer to be learnt"),
        (chat(user(), assistant(), user("And?")), "last_not_assistant", "the last message is from user"),
        (chat(user(), assistant(weight=2)), "invalid_weight", "must be 0 or 1, found a number (2)"),
        (chat(user(), assistant(weight=True)), "invalid_weight", "found true"),
        (chat(user(weight=1), assistant()), "invalid_weight", "does not belong in a user message"),
        (chat(user(), assistant(weight=0)), "nothing_to_train", "every assistant message has weight 0"),
        (chat(user(), assistant(refusal=5)), "invalid_content", "messages[1].refusal must be text, found a number (5)"),
        (chat(user(), assistant([REFUSED, text()])), "invalid_content", "must be nothing but its refusal"),
        (chat(user(name="Ada Lovelace"), assistant()), "invalid_name", "found the text 'Ada Lovelace'"),
        (chat({"role": "function", "content": "4"}, user(), assistant()), "invalid_name", "found null"),
        (chat(parallel_tool_calls="yes"), "invalid_tools", "must be true or false"),
    ],
)
def test_an_error_has_line_code_and_advice(tmp_path: Path, example: dict[str, Any], code: str, words: str) -> None:
    report = checked(tmp_path, example)
    assert codes(report) == [(11, code)]
    assert words in report.errors[0].message
    assert report.n_examples == 10


@pytest.mark.parametrize(
    ("example", "code"),
    [
        (chat(user(), SYSTEM, assistant()), "system_not_first"),
        (chat(SYSTEM, assistant()), "missing_user"),
        (chat({"role": "developer", "content": "Be short."}, SYSTEM, user(), assistant()), "system_not_first"),
        (chat(user(), user("Really?"), assistant()), "repeated_role"),
        (chat(user(), assistant(), assistant()), "repeated_role"),
        (chat(parallel_tool_calls=True), "parallel_without_tools"),
        (chat(user(mood="gay"), assistant()), "unknown_key"),
        (chat(id=7), "unknown_key"),
        (chat(user([text() | {"detail": "low"}]), assistant()), "unknown_key"),
        (chat(user([text(), image(width=5)]), assistant()), "unknown_key"),
    ],
)
def test_what_a_provider_may_let_pass_is_a_warning_and_still_an_example(
    tmp_path: Path, example: dict[str, Any], code: str
) -> None:
    report = checked(tmp_path, example)
    assert codes(report) == [(11, code)]
    assert (report.errors, report.n_examples) == ([], 11)


def test_every_problem_of_a_line_is_reported(tmp_path: Path) -> None:
    report = checked(tmp_path, chat({"role": "bot", "content": "hi"}, user(""), assistant(weight=3)))
    assert codes(report) == [(11, "unknown_role"), (11, "empty_content"), (11, "invalid_weight")]


def test_a_bad_field_hides_neither_the_order_nor_the_images_nor_the_texts_of_its_line(tmp_path: Path) -> None:
    asked = user([image("ftp://example.com/a.png"), text("caf\ufffd")], name="a b")
    report = checked(tmp_path, chat(asked, assistant(5), user("And?")))
    assert codes(report) == [
        (11, "invalid_name"), (11, "invalid_content"), (11, "last_not_assistant"), (11, "image_invalid"),
        (11, "replacement_character"),
    ]  # fmt: skip
