"""Templates are filled as OpenAI's guide on graders says, and wrong ones are refused by what is wrong in them."""

from __future__ import annotations

import time

import pytest

from finetune_assets.errors import GraderError
from finetune_assets.server.grading.template import Template, UnfilledError, Values

VALUES = Values({"label": "Yes", "a": {"b": [1, 2.0, {"k k": True}]}, "x-y": None}, '{"q": {"r": 0.5}}')


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("no name", "no name"),
        ("{{item.label}}", "Yes"),
        ("<{{ item.label }}> {{item.label}}!", "<Yes> Yes!"),
        ("{{sample.output_text}}", VALUES.text),
        ("{{sample.output_json.q.r}}", "0.5"),
        ("{{item.a.b[0]}} {{item.a.b[1]}} {{item.a.b[2]['k k']}} {{item.x-y}}", "1 2.0 true null"),
        ("{{item.a}}", '{"b":[1,2.0,{"k k":true}]}'),
        ("} { {item.label} }}", "} { {item.label} }}"),
    ],
)
def test_names_are_filled_in_texts_as_they_are_and_all_else_as_json(template: str, filled: str) -> None:
    assert Template(template).fill(VALUES) == filled


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{item}}", r"\{\{item\}\} is no name such as"),
        ("{{items.a}}", "is no name"),
        ("{{row.a}}", "is no name"),
        ("{{item.a b}}", "is no name"),
        ("{{ {{item.a}} }}", "is no name"),
        ("{{}}", "is no name"),
        ("a {{item.label", r"'\{\{item.label' is opened"),
        ("{{sample.output_tools[0].function.name}}", "gives graders no sample.output_tools"),
        ("{{sample.text}}", "there is no sample.text"),
        ("{{sample.output_text.x}}", "there is no sample.output_text"),
    ],
)
def test_what_is_no_name_is_refused(template: str, told: str) -> None:
    with pytest.raises(GraderError, match=told):
        Template(template)


@pytest.mark.parametrize(
    ("template", "text", "flag"),
    [
        ("{{item.none}}", "", "invalid_variable_error"),
        ("{{item.a.b[3]}}", "", "invalid_variable_error"),
        ("{{item.label.x}}", "", "invalid_variable_error"),
        ("{{sample.output_json.none}}", "{}", "invalid_variable_error"),
        ("{{sample.output_json.q}}", "Yes", "sample_parse_error"),
    ],
)
def test_what_an_example_or_an_answer_lacks_is_told_in_the_protocols_words(template: str, text: str, flag: str) -> None:
    with pytest.raises(UnfilledError) as unfilled:
        Template(template).fill(Values(VALUES.item, text))
    assert unfilled.value.flag == flag


def test_a_long_text_of_braces_is_read_in_linear_time() -> None:
    began = time.process_time()
    with pytest.raises(GraderError):
        Template("{{" * 500_000)
    Template("} {" * 500_000)
    assert time.process_time() - began < 1
