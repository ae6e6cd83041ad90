from pathlib import Path
from typing import Any

import pytest

from finetune_assets.training_file.findings import FileReport
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.training_file.chats import assistant, chat, codes, good, image, text, user, write


def task(n: int = 0, *messages: Any, **fields: Any) -> dict[str, Any]:
    return chat(*(messages or [user(f"What is {n} squared?")]), **({"reference_answer": n * n} | fields))


def graded(folder: Path, *lines: Any) -> FileReport:
    """The report on a file that begins with ten good tasks, so that these lines begin at 11."""
    path = write(folder / "train.jsonl", *[task(100 + n) for n in range(10)], *lines)
    return validate(path, method="reinforcement").files[0]


def test_tasks_for_a_grader_have_no_finding(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    lines = [
        task(1, {"role": "system", "content": "Be brief."}, user("1?"), assistant("Yes?"), user([image(), text()])),
        task(2, tools=tools),
        task(3, item={"rubric": ["a"]}),
    ]
    report = graded(tmp_path, *lines)
    assert (codes(report), report.n_examples) == ([], 13)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (task(1, user(), assistant("4")), [(11, "last_not_user")]),
        (task(1, user("")), [(11, "empty_content")]),
        ({"reference_answer": 4}, [(11, "missing_messages")]),
        (good(1)[0], [(11, "wrong_format")]),
        (chat(user("No reference?")), [(11, "missing_reference")]),
        (task(101), [(11, "duplicate_example")]),
    ],
)
def test_what_a_grader_cannot_use_is_told(tmp_path: Path, line: Any, found: list[tuple[int, str]]) -> None:
    assert codes(graded(tmp_path, line)) == found


@pytest.mark.parametrize("method", ["supervised", None, "dpo"])
def test_a_file_for_a_grader_is_named_in_one_finding_where_it_is_not_asked_for(tmp_path: Path, method: Any) -> None:
    path = write(tmp_path / "train.jsonl", *[task(n) for n in range(12)])
    [report] = validate(path, method=method).files
    assert [line for line, _ in codes(report)] == [None]
    if method != "dpo":
        assert "in the reinforcement format" in report.errors[0].message
        assert "--method reinforcement" in report.errors[0].message


def test_a_chat_file_is_named_where_a_grader_is_meant(tmp_path: Path) -> None:
    [report] = validate(write(tmp_path / "train.jsonl", *good(12)), method="reinforcement").files
    assert codes(report) == [(None, "wrong_format")]


def test_a_task_among_chats_is_an_error_of_its_line(tmp_path: Path) -> None:
    [report] = validate(write(tmp_path / "train.jsonl", *good(12), task(1))).files
    assert (codes(report), report.n_examples) == ([(13, "wrong_format")], 12)
