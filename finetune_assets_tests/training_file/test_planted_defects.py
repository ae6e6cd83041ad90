"""Sixty and more defects, each planted on a line of its own among sound lines of every kind."""

import base64
from pathlib import Path
from typing import Any

import orjson

from finetune_assets.dataset.images import data_url
from finetune_assets.training_file.target import AZURE, LOCAL, OPENAI, Target
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.dataset.pictures import picture
from finetune_assets_tests.training_file.chats import assistant, chat, good, image, text, user, write

FUNCTION = {
    "name": "level",
    "description": "Of a tank.",
    "parameters": {
        "type": "object",
        "required": ["tank"],
        "properties": {"tank": {"type": "string"}, "unit": {"enum": ["m", "l"]}},
    },
}
TOOLS = [{"type": "function", "function": FUNCTION}]
PNG = base64.b64encode(picture()).decode()


def call(name: str = "level", arguments: str = '{"tank": "T1"}', call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(made)}


def answer(**fields: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c1", "content": "3.2"} | fields


def tooled(*messages: Any, **fields: Any) -> dict[str, Any]:
    return chat(*messages, **({"tools": TOOLS} | fields))


def shown(url: str) -> dict[str, Any]:
    return chat(user([text(url[-20:]), image(url)]), assistant())


def sound() -> list[dict[str, Any]]:
    """Lines of every kind that no finding is due to, 120 of them."""
    each: list[dict[str, Any]] = []
    for n in range(24):
        each += [
            chat({"role": "system", "content": "Be brief."}, user(f"Is tank {n} full?"), assistant(f"It is {n} full.")),
            tooled(user(f"How full is {n}?"), calls(call()), answer(name="level"), assistant(f"{n}: 3.2 m")),
            tooled(
                user(f"And {n}?"),
                {"role": "assistant", "function_call": call()["function"]},
                {"role": "function", "name": "level", "content": "3"},
                assistant(f"It is {n}."),
                tools=None,
                functions=[FUNCTION],
            ),
            chat(
                user(f"What is part {n}?"),
                user([image(data_url(picture(shade=40 + n), "image/png"))]),
                assistant(f"{n}"),
            ),
            chat(user([text(f"Say {n}.")]), assistant(f"first {n}", weight=0), user("Well?"), assistant(f"last {n}")),
        ]
    return each


DEFECTS: list[dict[str, Any] | bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"nonsense",
    b'{"messages": [],}',
    b'{"messages": []}},',
    b'{"a": NaN}',
    b"{'a': 1}",
    "{\u201ca\u201d: 1}".encode(),
    b'{"a": "\xe9"}',
    b"\xef\xbb\xbf" + orjson.dumps(good(1, start=900)[0]),
    b'{"messages": [{"role": "user", "role": "user", "content": "twice?"}, {"role": "assistant", "content": "So"}]}',
    {},
    {"messages": "hi"},
    {"messages": []},
    {"prompt": "a", "completion": "b"},
    {"conversations": []},
    {"instruction": "a", "output": "b"},
    {"contents": []},
    chat("hi", assistant()),
    chat({"content": "hi"}, assistant()),
    chat({"role": "bot", "content": "hi"}, assistant()),
    chat({"role": "user"}, assistant()),
    chat(user(""), assistant()),
    chat(user([]), assistant("a")),
    chat(user([text(" ")]), assistant("b")),
    chat(user(5), assistant("c")),
    chat(user([{"type": "audio"}]), assistant("d")),
    chat(user([image(detail="max")]), assistant("e")),
    chat(user(), assistant([image()])),
    chat(user("only asked")),
    chat(user(), assistant("f"), user("And?")),
    chat(user(), assistant("g", weight=2)),
    chat(user(weight=1), assistant("h")),
    chat(user("0?"), assistant("i", weight=0)),
    chat(user(), assistant(refusal=5)),
    chat(user(name="Ada L"), assistant("j")),
    chat(user("k?", mood="gay"), assistant("k")),
    chat(user("a"), user("b"), assistant("l")),
    chat(user("m"), {"role": "system", "content": "x"}, assistant("m")),
    chat(user("n?"), assistant("n"), parallel_tool_calls=True),
    chat(user("o?"), assistant("o"), id=7),
    tooled(user("1"), calls(call("other"))),
    tooled(user("2"), calls(call(arguments="{}"))),
    tooled(user("3"), calls(call(arguments="{"))),
    tooled(user("4"), calls(call(arguments='{"tank": 5}'))),
    tooled(user("5"), calls(call(arguments='{"tank": "a", "unit": "k"}'))),
    tooled(user("6"), calls(call()), assistant("6")),
    tooled(user("7"), calls(call(), call()), answer(), assistant("7")),
    tooled(user("8"), answer(), assistant("8")),
    tooled(user("9"), calls(call()), answer(tool_call_id="c9"), assistant("9")),
    tooled(user("10"), calls()),
    tooled(user("11"), calls(call(), call(call_id="c2")), parallel_tool_calls=False),
    chat(
        user("12"),
        {"role": "assistant", "function_call": {"name": "level", "arguments": "{}"}},
        user("?"),
        assistant("12"),
    ),
    chat(user("13"), assistant("13"), tools=TOOLS * 2),
    chat(user("14"), assistant("14"), tools=[{"type": "function"}]),
    shown("images/a.png"),
    shown("http://example.com/a.png"),
    shown("https://10.0.0.1/a.png"),
    shown("https://a.com/a.gif"),
    shown("data:image/png;base64," + PNG[:40] + "\n" + PNG[40:]),
    shown("data:image/png;base64," + PNG[:-9]),
    shown("data:image/gif;base64," + PNG),
    shown(data_url(picture("JPEG"), "image/png")),
    shown(data_url(picture("PNG", "L"), "image/png")),
    chat(user([image()] * 65), assistant()),
    chat(user("My key is sk-" + "a1B2" * 8), assistant("p")),
    chat(user("It isn\u00e2\u20ac\u2122t"), assistant("q")),
    chat(user("caf\ufffd"), assistant("r")),
    chat(user("<|endoftext|>"), assistant("s")),
    chat(user("a\x00b"), assistant("t")),
]


def found_lines(path: Path, target: Target) -> set[int | None]:
    [report] = validate(path, target=target).files
    return {finding.line for finding in (*report.errors, *report.warnings)}


def test_every_planted_defect_is_found_on_its_line_and_nothing_else(tmp_path: Path) -> None:
    assert len(DEFECTS) >= 60
    lines: list[dict[str, Any] | bytes] = []
    planted: set[int | None] = set()
    for n, line in enumerate(sound()):
        lines.append(line)
        if n < len(DEFECTS):
            lines.append(DEFECTS[n])
            planted.add(len(lines))
    path = write(tmp_path / "train.jsonl", *lines)
    for target in (OPENAI, AZURE, LOCAL):
        assert found_lines(path, target) == planted


def test_sound_lines_have_no_finding(tmp_path: Path) -> None:
    train, held_out = write(tmp_path / "a.jsonl", *sound()[:100]), write(tmp_path / "b.jsonl", *sound()[100:])
    for target in (OPENAI, AZURE, LOCAL):
        report = validate(train, held_out, target, method=None, alike=True)
        assert [file.errors + file.warnings for file in report.files] == [[], []]
