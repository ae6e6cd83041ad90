import base64
import json
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import chat_jsonl
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import Answer, BinaryAnswer, CallAnswer, ChoiceAnswer, NumberAnswer, TextAnswer
from finetune_assets.task.sources import ChatJsonlSource
from finetune_assets_tests.dataset.pictures import picture

PRICE = NumberAnswer(kind="number", template="Price is ${}", maximum=1000)
TEXT = TextAnswer(kind="text")


def chat(user: object = "How much is a pen?", answer: object = "Price is $1.20", **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "You estimate prices."},
        {"role": "user", "content": user},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages, **more}


def read(tmp_path: Path, lines: list[object], answer: Answer = PRICE, **settings: object) -> list[Example]:
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (tmp_path / "chat.jsonl").write_text(text)
    region = settings or {"region": "all"}
    source = ChatJsonlSource.model_validate({"kind": "chat_jsonl", "path": str(tmp_path / "chat.jsonl"), **region})
    return list(chat_jsonl.read(source, "all", answer))


def test_a_line_keeps_its_system_message_and_its_number_is_read(tmp_path: Path) -> None:
    [made] = read(tmp_path, [chat(answer="Price is $1,012.5\n")], NumberAnswer(kind="number", template="Price is ${}"))
    assert (made.system, made.question) == ("You estimate prices.", "How much is a pen?")
    assert (made.answer, made.score, made.line) == ("Price is $1012.50", 1012.5, 1)


@pytest.mark.parametrize(
    ("answer", "written", "label"),
    [
        (BinaryAnswer(kind="binary"), "No, it is whole.", "No"),
        (ChoiceAnswer(kind="choice", options=["cat", "dog"]), "That is a Dog!", "dog"),
        (TEXT, " Water. ", "Water."),
    ],
)
def test_the_answer_is_read_as_its_kind_asks(tmp_path: Path, answer: Answer, written: str, label: str) -> None:
    assert [example.answer for example in read(tmp_path, [chat(answer=written)], answer)] == [label]


def test_what_the_assistant_calls_is_the_answer_where_the_task_is_to_call(tmp_path: Path) -> None:
    called = {"id": "c", "type": "function", "function": {"name": "book", "arguments": '{"to": "Bonn"}'}}
    twice, said = chat(answer=None), chat(answer="Booked.")
    lines = [chat(answer=None), twice, said, chat(answer="No.")]
    for line, calls in ((lines[0], [called]), (twice, [called, called]), (said, [called])):
        line["messages"][-1]["tool_calls"] = calls
    calling = CallAnswer.model_validate({"kind": "call", "tools": [{"name": "book"}]})
    found = read(tmp_path, [*lines], calling)
    assert [each.answer for each in found] == ['{"name": "book", "arguments": {"to": "Bonn"}}', None, None, None]
    assert "no single call" in (found[1].detail or "")
    (as_text,) = read(tmp_path, [lines[0]], TEXT)
    assert "no text in its assistant message" in (as_text.detail or "")


def test_a_sentence_that_negates_a_word_is_set_aside_and_says_why(tmp_path: Path) -> None:
    answer = BinaryAnswer(kind="binary", positive="broken", negative="whole")
    said = ["It is broken.", "It is not broken.", "Is it broken?", "broken or whole", "whole"]
    found = read(tmp_path, [chat(answer=each) for each in said], answer)
    assert [(each.answer, each.problem) for each in found] == [
        ("broken", None),
        *[(None, "unparseable_answer")] * 3,
        ("whole", None),
    ]
    assert found[1].detail.endswith(
        "found the text 'It is not broken.': it says something else of 'broken', as `not` does"
    )
    assert found[2].detail.endswith("it does not plainly say 'broken'")
    assert found[3].detail.endswith("it names broken and whole")


USER, ASSISTANT = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "1"}


@pytest.mark.parametrize(
    ("line", "problem", "detail"),
    [
        ('{"messages": [\n', "malformed_line", "cut off"),
        ({"messages": "x"}, "malformed_line", "needs messages, a list of objects, found the text 'x'"),
        ({"messages": [USER, ASSISTANT, USER, ASSISTANT]}, "malformed_line", "has 2 user messages"),
        ({"messages": [USER]}, "malformed_line", "has 0 assistant messages"),
        ({"messages": [ASSISTANT, USER]}, "malformed_line", "the assistant's answer must be the last"),
        ({"messages": [USER, {"role": "tool", "content": ""}, ASSISTANT]}, "malformed_line", "has a tool message"),
        ({"messages": [USER, ASSISTANT | {"weight": 0}]}, "malformed_line", "has an answer of weight 0, which is not"),
        (chat(user=""), "malformed_line", "has no text in its user message"),
        (chat(answer=None), "malformed_line", "has no text in its assistant message"),
        (chat(answer="no idea"), "unparseable_answer", "line 1: answer must be one number, found the text 'no idea'"),
        (chat(answer="Price is $1001"), "score_out_of_range", "answer must be at most 1000, found 1001"),
    ],
)
def test_a_bad_line_says_what_is_wrong_and_hides_no_other(
    tmp_path: Path, line: object, problem: str, detail: str
) -> None:
    bad, good = read(tmp_path, [line, chat()])
    assert (bad.line, bad.problem, bad.answer) == (1, problem, None)
    assert detail in bad.detail
    assert (good.line, good.problem) == (2, None)


def test_the_region_may_be_a_field_of_the_line_or_of_its_metadata(tmp_path: Path) -> None:
    lines = [chat(category="All"), chat(metadata={"category": "all"}), chat(category="other"), chat()]
    found = read(tmp_path, list(lines), region_field="category")
    assert [(e.line, e.problem, e.detail) for e in found] == [
        (1, None, ""),
        (2, None, ""),
        (4, "missing_field", "line 4 has no category"),
    ]


def test_the_region_may_be_read_from_the_question(tmp_path: Path) -> None:
    found = read(
        tmp_path, [chat("Category: All. Pen"), chat("Category: Toys. Car")], region_from_question=r"Category: (\w+)"
    )
    assert [e.line for e in found] == [1]


def test_lines_that_share_a_field_are_one_group(tmp_path: Path) -> None:
    assert [e.group for e in read(tmp_path, [chat(doc=7), chat()], region="all", group_field="doc")] == ["7", None]


def test_an_image_may_be_inside_the_line_beside_the_file_or_on_the_web(tmp_path: Path) -> None:
    data = picture()
    urls = [f"data:image/png;base64,{base64.b64encode(data).decode()}", "pen.png", "https://e.org/pen.png", "data:x"]
    asked = [[{"type": "text", "text": "Price?"}, {"type": "image_url", "image_url": {"url": url}}] for url in urls]
    inside, beside, on_the_web, broken = read(tmp_path, [chat(user) for user in asked])
    assert (inside.image, beside.image) == (data, str(tmp_path / "pen.png"))
    assert (on_the_web.image, on_the_web.problem) == ("https://e.org/pen.png", None)
    assert broken.problem == "image_unreadable"
    assert {e.question for e in (inside, beside, on_the_web, broken)} == {"Price?"}


def test_a_folder_of_files_is_read_as_one(tmp_path: Path) -> None:
    for name in ("train.jsonl", "validation.jsonl"):
        (tmp_path / name).write_text(json.dumps(chat()) + "\n\n")
    source = ChatJsonlSource(kind="chat_jsonl", path=str(tmp_path), region="all")
    assert [Path(e.source).name for e in chat_jsonl.read(source, "all", PRICE)] == ["train.jsonl", "validation.jsonl"]
    assert set(chat_jsonl.regions(source)) == {"all"}


def test_one_question_is_answered_in_one_unit(tmp_path: Path) -> None:
    age = NumberAnswer(kind="number")
    old = [chat("How old?", "2 years"), chat("How old?", "3 weeks old")]
    with pytest.raises(SourceError, match=r"'2 years' \(chat.jsonl line 1\) and '3 weeks old' \(chat.jsonl line 2\)"):
        read(tmp_path, [*old], age)
    others = [
        chat("How old in years?", "2 years"),
        chat("How old in weeks?", "3 weeks"),
        chat("How old in years?", "2"),
    ]
    assert [made.score for made in read(tmp_path, [*others], age)] == [2, 3, 2]
