from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.generation.answer_reader import AnswerReader
from finetune_assets.server.model.answer_form import AnswerForm, CallForm, Marks, TaggedArguments
from finetune_assets_tests.server.texts import texts

HERMES = CallForm(
    '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", '}\n</tool_call>\n<tool_call>\n{"name": "',
    '\n<tool_call>\n{"name": "',
)  # fmt: skip
QWEN = AnswerForm(thought=Marks("<think>", "</think>"), efforts=("medium",), calls=HERMES)
HARMONY = AnswerForm(
    "<|channel|>final<|message|>", Marks("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"), ("low",),
    CallForm(" to=functions.", "<|channel|>commentary json<|message|>", "", None, None),
)  # fmt: skip
TAGGED = AnswerForm(calls=CallForm(
    "<tool_call>\n<function=", ">\n", "</function>\n</tool_call>",
    "</function>\n</tool_call>\n<tool_call>\n<function=", "\n\n<tool_call>\n<function=",
    TaggedArguments("<parameter=", ">\n", "\n</parameter>\n"),
))  # fmt: skip
TEXT = texts(but="<", max_size=12).map(str.strip)
ARGUMENTS = st.dictionaries(texts(max_size=4), st.recursive(texts(max_size=6) | st.integers() | st.none(),
                            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts(max_size=3), inner,
                            max_size=2), max_leaves=4), max_size=3)  # fmt: skip


def read(form: AnswerForm, text: str, cuts: list[int] | None = None, **how: Any) -> list[list[str]]:
    """Kinds and texts of an answer that comes in pieces; `mark` left out, pieces of a kind joined."""
    usual: dict[str, Any] = {"calling": True, "thinking": True}
    reader = AnswerReader(form, **usual | how)
    places = sorted({place % (len(text) + 1) for place in cuts or []} | {0, len(text)})
    pieces = [piece for a, b in itertools.pairwise(places) for piece in reader.feed(text[a:b])]
    found: list[list[str]] = []
    for piece in [*pieces, *reader.end()]:
        if piece.kind == "mark":
            continue
        if found and found[-1][0] == piece.kind != "name":
            found[-1][1] += piece.text
        else:
            found.append([piece.kind, piece.text])
    return found


@given(TEXT, TEXT, st.lists(ARGUMENTS, max_size=2), st.lists(st.integers(0, 500), max_size=6))
def test_an_answer_is_read_the_same_in_whatever_pieces_it_comes(
    thought: str, said: str, arguments: list[dict[str, Any]], cuts: list[int]
) -> None:
    calls = [f'<tool_call>\n{{"name": "f", "arguments": {json.dumps(values)}}}\n</tool_call>' for values in arguments]
    text = f"<think>\n{thought}\n</think>\n\n{said}" + "".join("\n" + call for call in calls)
    expected = [["thought", thought]] if thought else []
    expected += [["content", said]] if said else []
    for values in arguments:
        expected += [["name", "f"], ["arguments", json.dumps(values)]]
    assert read(QWEN, text, cuts) == expected


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (QWEN, "Yes", [["content", "Yes"]]),
        (QWEN, "<think>\nHm", [["thought", "Hm"]]),
        (QWEN, "<thi", [["content", "<thi"]]),
        (QWEN, "Yes\n<tool_ca", [["content", "Yes\n<tool_ca"]]),
        (QWEN, '<tool_call>\n{"name": "f", "arguments": {"a": "}', [["name", "f"], ["arguments", '{"a": "}']]),
        (HARMONY, "<|channel|>final<|message|>Yes", [["content", "Yes"]]),
        (HARMONY, "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Yes",
         [["thought", "Hm"], ["content", "Yes"]]),
        (HARMONY, "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant to=functions.f<|channel|>commentary json"
         "<|message|>{}", [["thought", "Hm"], ["name", "f"], ["arguments", "{}"]]),
    ],
)  # fmt: skip
def test_each_form_is_read(form: AnswerForm, text: str, expected: list[list[str]]) -> None:
    assert read(form, text) == expected


@given(TEXT, st.lists(st.tuples(TEXT, st.integers()), max_size=2), st.lists(st.integers(0, 500), max_size=6))
def test_arguments_that_stand_one_by_one_are_read_the_same_in_whatever_pieces_they_come(
    said: str, called: list[tuple[str, int]], cuts: list[int]
) -> None:
    calls = [f"<tool_call>\n<function=f>\n<parameter=a>\n{a}\n</parameter>\n<parameter=n>\n{n}\n</parameter>\n"
             f"</function>\n</tool_call>" for a, n in called]  # fmt: skip
    functions = {"f": {"properties": {"a": {"type": "string"}, "n": {"type": "integer"}}}}
    expected = [["content", said]] if said else []
    for a, n in called:
        expected += [["name", "f"], ["arguments", json.dumps({"a": a, "n": n}, ensure_ascii=False)]]
    assert read(TAGGED, said + ("\n\n" if said else "") + "\n".join(calls), cuts, functions=functions) == expected


def test_a_call_without_arguments_and_one_that_is_cut_off() -> None:
    begun = "<tool_call>\n<function=f>\n"
    assert read(TAGGED, f"{begun}</function>\n</tool_call>") == [["name", "f"], ["arguments", "{}"]]
    assert read(TAGGED, f"{begun}<parameter=a>\n1\n</para") == [["name", "f"]]
    cut = f"{begun}<parameter=a>\nx\n</parameter>\n<param"
    assert read(TAGGED, cut) == [["name", "f"], ["arguments", '{"a": "x"']]


def test_a_thought_that_the_prompt_began_is_read_to_its_end() -> None:
    form = AnswerForm(thought=Marks("", "</think>"), efforts=("medium",))
    assert read(form, "Hm\n</think>\n\nYes") == [["thought", "Hm"], ["content", "Yes"]]


def test_where_nothing_may_be_called_marks_of_calls_are_text() -> None:
    assert read(QWEN, "a <tool_call>", calling=False) == [["content", "a <tool_call>"]]
