from pathlib import Path
from typing import Any

import pytest

from finetune_assets.dataset.images import data_url
from finetune_assets.training_file.validation import FileReport, validate
from finetune_assets_tests.dataset.pictures import picture
from finetune_assets_tests.training_file.chats import assistant, chat, codes, good, image, text, user, write

SYSTEM = {"role": "system", "content": "Be short."}
CALL = assistant(
    None, tool_calls=[{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
)


def pair(n: int = 0, **changes: Any) -> dict[str, Any]:
    """A well-formed preference line."""
    usual = {
        "input": {"messages": [user(f"Is {n} even?")]},
        "preferred_output": [assistant("Yes")],
        "non_preferred_output": [assistant("No")],
    }
    return usual | changes


def asked(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def checked_pair(folder: Path, *lines: Any) -> FileReport:
    """The report on a file that begins with ten good pairs, so that these lines begin at 11."""
    path = write(folder / "train.jsonl", *[pair(100 + n) for n in range(10)], *lines)
    [report] = validate(path, method="dpo").files
    return report


@pytest.mark.parametrize(
    "line",
    [
        pair(),
        pair(input=asked({"role": "system", "content": "Be short."}, user(), assistant("Why?"), user("So."))),
        pair(input=asked(user([image(detail="low"), text()]))),
        pair(input=asked(user(), tools=[{"type": "function", "function": {"name": "f"}}], parallel_tool_calls=True)),
    ],
)
def test_a_well_formed_pair_has_no_finding(tmp_path: Path, line: dict[str, Any]) -> None:
    report = checked_pair(tmp_path, line)
    assert codes(report) == []
    assert report.n_examples == 11


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (pair(input=None), "invalid_input", 'input must be {"messages": [...]}, found null'),
        (pair(input=asked()), "invalid_messages", "input.messages must be a list of messages, found a list of 0"),
        (pair(input=asked(user(""))), "empty_content", "input.messages[0].content (user) is empty"),
        (pair(input=asked(user(), assistant())), "last_not_user", "input.messages is from assistant"),
        (pair(preferred_output=[]), "invalid_output", "preferred_output must be a list of one assistant message"),
        (pair(preferred_output=[assistant(), assistant("No")]), "invalid_output", "found a list of 2"),
        (pair(non_preferred_output=[user()]), "invalid_output", "non_preferred_output[0] must be from the assistant"),
        (pair(non_preferred_output=[assistant("")]), "empty_content", "non_preferred_output[0].content (assistant)"),
        (pair(preferred_output=[{"content": "Yes"}]), "missing_role", "preferred_output[0] has no role"),
        (pair(preferred_output=[assistant("No")]), "identical_outputs", "are the same"),
        (
            pair(input=asked(user([image("data:image/png;base64,AAAA")]))),
            "image_invalid",
            "input.messages[0].content[0]",
        ),
        (pair(input=asked(user(), tools="f")), "invalid_tools", "input.tools must be a list"),
        (pair(input=asked(user(), user("Really?"))), "repeated_role", "input.messages[1] is from user as the one"),
        (pair(input=asked(user(), SYSTEM, user())), "system_not_first", "input.messages[1] is a system message"),
        (pair(preferred_output=[CALL]), "undeclared_function", "preferred_output[0] calls 'look_up'"),
        (pair(score=3), "unknown_key", "score is not part of the format"),
        (pair(input=5), "invalid_input", "found a number (5)"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_field(tmp_path: Path, line: Any, code: str, words: str) -> None:
    report = checked_pair(tmp_path, line)
    [finding] = [f for f in (*report.errors, *report.warnings) if f.code == code and words in f.message]
    assert finding.line == 11


def test_one_prompt_may_have_several_pairs_but_not_the_same_twice(tmp_path: Path) -> None:
    other = pair(7, non_preferred_output=[assistant("Maybe")])
    assert codes(checked_pair(tmp_path, pair(7), other, pair(7))) == [(13, "duplicate_example")]


def test_two_pairs_of_which_each_prefers_what_the_other_does_not_contradict(tmp_path: Path) -> None:
    yes, no = [assistant("Yes")], [assistant("No")]
    one, other = (pair(7, preferred_output=a, non_preferred_output=b) for a, b in ((yes, no), (no, yes)))
    assert codes(checked_pair(tmp_path, one, other)) == [(11, "contradictory_answers"), (12, "contradictory_answers")]


def test_a_prompt_in_both_files_leaks(tmp_path: Path) -> None:
    training = write(tmp_path / "train.jsonl", *[pair(n) for n in range(10)])
    held_out = write(tmp_path / "validation.jsonl", pair(3, preferred_output=[assistant("Indeed")]))
    [_, second] = validate(training, held_out, method="dpo").files
    assert codes(second) == [(1, "leak")]


def test_tokens_are_those_of_both_conversations(tmp_path: Path) -> None:
    dpo = checked_pair(tmp_path)
    chats = [chat(user(f"Is {100 + n} even?"), assistant(a)) for n in range(10) for a in ("Yes", "No")]
    [supervised] = validate(write(tmp_path / "chats.jsonl", *chats)).files
    assert dpo.tokens_total == supervised.tokens_total


def test_lines_of_both_formats_in_one_file_are_all_checked_and_the_fewer_are_reported(tmp_path: Path) -> None:
    lines = [pair(1), *good(12), pair(2, preferred_output=[assistant("")])]
    for method in ("supervised", None):
        [report] = validate(write(tmp_path / "train.jsonl", *lines), method=method).files
        assert codes(report) == [(1, "wrong_format"), (14, "empty_content"), (14, "wrong_format")]
        assert report.n_examples == 12


def test_a_method_that_is_not_given_is_taken_from_the_lines(tmp_path: Path) -> None:
    [report] = validate(write(tmp_path / "train.jsonl", *[pair(n) for n in range(12)]), method=None).files
    assert (codes(report), report.n_examples) == ([], 12)


def test_a_chat_file_for_dpo_is_one_finding(tmp_path: Path) -> None:
    [report] = validate(write(tmp_path / "train.jsonl", *good(12)), method="dpo").files
    assert codes(report) == [(None, "wrong_format")]
    assert "in the chat format, but the method 'dpo'" in report.errors[0].message
    assert report.n_lines == 12


def test_a_preference_file_for_supervised_training_is_one_finding(tmp_path: Path) -> None:
    url = data_url(picture(), "image/png")
    lines = [pair(n, input=asked(user([text(f"{n}?"), image(url)]))) for n in range(12)]
    [report] = validate(write(tmp_path / "train.jsonl", *lines)).files
    assert codes(report) == [(None, "wrong_format")]
    assert "preference (DPO) format, but the method 'supervised'" in report.errors[0].message
