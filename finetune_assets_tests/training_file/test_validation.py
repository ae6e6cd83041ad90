import hashlib
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.images import data_url
from finetune_assets.errors import TrainingFileError
from finetune_assets.training_file import findings
from finetune_assets.training_file.target import OPENAI, find_target
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.dataset.pictures import picture
from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, good, image, text, user, write

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["messages", "role", "content", "type", "text", "image_url", "url", "detail", "weight", "name", "tools",
         "tool_calls", "function", "arguments", "id", "tool_call_id", "function_call", "refusal"]), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"]), "content": json_values},
        optional={"weight": json_values, "name": json_values, "tool_calls": json_values, "function_call": json_values},
    ),
    max_size=4,
)


def test_the_json_report_has_the_published_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", *good(10), b"{")
    [file] = (report := validate(path).to_dict())["files"]
    assert (report["ok"], file["path"], file["n_lines"], file["n_examples"]) == (False, str(path), 11, 10)
    assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(file["tokens"]) == ["total", "max"]
    assert [list(finding) for finding in file["errors"]] == [["line", "code", "message"]]
    assert file["warnings"] == []


def test_a_clean_file_of_10_000_lines_has_no_finding(tmp_path: Path) -> None:
    [report] = validate(write(tmp_path / "train.jsonl", *good(10_000))).files
    assert (codes(report), report.n_examples) == ([], 10_000)
    assert report.answers == {"No": 5_000, "Yes": 5_000}


def test_tokens_are_those_of_the_examples(tmp_path: Path) -> None:
    [report] = validate(write(tmp_path / "train.jsonl", *[chat()] * 10)).files
    one = (
        (3 + 1 + 4) + (3 + 1 + 1) + 3
    )  # two messages and the answer's start; "Is it warm?" has four tokens, others one
    assert (report.tokens_total, report.tokens_max, report.token_histogram) == (10 * one, one, {16: 10})


def test_one_bad_line_never_hides_the_others(tmp_path: Path) -> None:
    report = checked(tmp_path, b'{"messages": [{"role"', b"[]", b"", b"\xff\xfe\x00", b"nonsense", chat())
    assert codes(report) == [
        (11, "invalid_json"), (12, "not_an_object"), (14, "invalid_encoding"), (15, "invalid_json"), (13, "blank_line"),
    ]  # fmt: skip
    assert (report.n_lines, report.n_examples) == (16, 11)


def test_a_byte_order_mark_is_reported_and_its_line_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(map(orjson.dumps, good(10))))
    [report] = validate(path).files
    assert codes(report) == [(1, "byte_order_mark")]
    assert report.n_examples == 10


@pytest.mark.parametrize(("n", "expected"), [(0, ["too_few_examples"]), (9, ["too_few_examples"]), (10, [])])
def test_a_training_file_needs_ten_examples(tmp_path: Path, n: int, expected: list[str]) -> None:
    [report] = validate(write(tmp_path / "train.jsonl", *good(n))).files
    assert [code for _, code in codes(report)] == expected


def test_a_validation_file_needs_one_example(tmp_path: Path) -> None:
    training = write(tmp_path / "train.jsonl", *good(10))
    assert validate(training, write(tmp_path / "one.jsonl", *good(1, start=50))).ok
    assert not validate(training, write(tmp_path / "none.jsonl")).ok


def test_duplicates_and_contradictions_name_the_first_line(tmp_path: Path) -> None:
    first = chat(user("Is water wet?"), assistant("Yes"))
    report = checked(tmp_path, first, first, chat(user("Is water wet?"), assistant("No")))
    assert codes(report) == [(11, "contradictory_answers"), (12, "duplicate_example"), (13, "contradictory_answers")]
    told = [finding.message.partition(";")[0] for finding in report.warnings]
    assert told == [
        "the same question as line 13 with another answer",
        "the same example as line 11",
        "the same question as line 11 with another answer",
    ]


def test_the_same_question_about_another_image_is_no_duplicate(tmp_path: Path) -> None:
    shades = [data_url(picture(shade=shade), "image/png") for shade in (50, 60)]
    examples = [chat(user([image(url), text()]), assistant()) for url in shades]
    assert codes(checked(tmp_path, *examples)) == []


def test_the_same_conversation_in_other_spelling_is_a_duplicate(tmp_path: Path) -> None:
    line = (
        b'{ "messages": [ {"content": "Is it\\u0020warm?", "role": "user"}, {"content": "Yes", "role": "assistant"}]}'
    )
    assert codes(checked(tmp_path, chat(), line)) == [(12, "duplicate_example")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is water wet?", "IS WATER  WET?"),
        ("Is water wet?", " is\u00a0water wet?\n"),
        ("Caf\u00e9 au lait?", "Cafe\u0301 au lait?"),
        ("Is water wet?", [text("Is water wet?")]),
        ([text("Wet?"), image()], [image(), text("Wet?")]),
    ],
)
def test_a_question_written_otherwise_is_the_same(tmp_path: Path, one: object, other: object) -> None:
    report = checked(tmp_path, *[chat(user(q), assistant(a)) for q, a in ((one, "Yes"), (other, "yes"), (other, "No"))])
    assert codes(report) == [(11, "contradictory_answers"), (12, "duplicate_example"), (13, "contradictory_answers")]


def test_a_letter_that_is_asked_about_keeps_its_size(tmp_path: Path) -> None:
    def code(letter: str) -> dict[str, object]:
        return chat(user(f"What is the code of '{letter}'?"), assistant(str(ord(letter))))

    assert codes(checked(tmp_path, code("a"), code("A"))) == []


def test_the_names_of_calls_do_not_tell_examples_apart(tmp_path: Path) -> None:
    def called(call_id: str) -> dict[str, object]:
        call = {"id": call_id, "type": "function", "function": {"name": "now", "arguments": "{}"}}
        answer = {"role": "tool", "tool_call_id": call_id, "content": "noon"}
        tools = [{"type": "function", "function": {"name": "now"}}]
        return chat(user(), assistant(None, tool_calls=[call]), answer, assistant(), tools=tools)

    assert codes(checked(tmp_path, called("c1"), called("c2"))) == [(12, "duplicate_example")]


def test_a_question_in_both_files_leaks_on_the_validation_files_line(tmp_path: Path) -> None:
    training = write(tmp_path / "train.jsonl", *good(10))
    held_out = write(tmp_path / "validation.jsonl", *good(1, start=90), chat(user("Is 4 even?"), assistant("No")))
    first, second = validate(training, held_out).files
    assert (codes(first), codes(second)) == ([], [(2, "leak")])
    assert "line 5 of the training file" in second.errors[0].message


def test_an_image_in_both_files_leaks_whatever_is_asked(tmp_path: Path) -> None:
    training = write(tmp_path / "train.jsonl", *good(10), chat(user([image(), text("Cracked?")]), assistant()))
    held_out = write(tmp_path / "validation.jsonl", chat(user([image(), text("Dirty?")]), assistant()))
    [_, second] = validate(training, held_out).files
    assert codes(second) == [(1, "leak")]
    assert "image is in line 11" in second.errors[0].message


def test_an_image_shown_as_an_example_in_every_prompt_is_no_leak(tmp_path: Path) -> None:
    def shown(n: int) -> dict[str, object]:
        url = data_url(picture(shade=n), "image/png")
        return chat(user([image(), text("Like this:")]), assistant("No"), user([image(url)]), assistant())

    training = write(tmp_path / "train.jsonl", *good(10), shown(20))
    assert validate(training, write(tmp_path / "validation.jsonl", shown(30))).ok


def test_an_image_that_is_talked_about_further_leaks_too(tmp_path: Path) -> None:
    def talk(question: str) -> dict[str, object]:
        return chat(user([image(), text("What is it?")]), assistant("A cell"), user(question), assistant())

    training = write(tmp_path / "train.jsonl", *good(10), talk("Is it cracked?"))
    [_, second] = validate(training, write(tmp_path / "validation.jsonl", talk("Is it dirty?"))).files
    assert codes(second) == [(1, "leak")]


def test_an_example_beyond_the_context_is_cut_off_and_warned_of(tmp_path: Path) -> None:
    long = chat(user("one two " * 10_000), assistant())
    assert codes(checked(tmp_path, long)) == []
    path = write(tmp_path / "long.jsonl", *good(10), long)
    [report] = validate(path, target=find_target("openai", "gpt-3.5-turbo-0125")).files
    assert codes(report) == [(11, "too_long")]
    assert "beyond 16,385 is cut off" in report.warnings[0].message


def test_a_single_answer_throughout_is_warned_of(tmp_path: Path) -> None:
    examples = [chat(user(f"Is {n} a number?"), assistant()) for n in range(12)]
    [report] = validate(write(tmp_path / "train.jsonl", *examples)).files
    assert codes(report) == [(None, "single_answer")]


def test_an_answer_that_is_nearly_always_given_is_warned_of(tmp_path: Path) -> None:
    def file(n_other: int) -> Path:
        examples = [chat(user(f"Is {n} odd?"), assistant("No" if n < n_other else "Yes")) for n in range(100)]
        return write(tmp_path / f"{n_other}.jsonl", *examples)

    assert codes(validate(file(6)).files[0]) == []
    [report] = validate(file(5)).files
    assert codes(report) == [(None, "dominant_answer")]
    assert report.warnings[0].message.startswith("95 of 100 answers are 'Yes'")


def test_talks_that_end_alike_are_no_single_answer(tmp_path: Path) -> None:
    talks = [chat(user(f"{n}?"), assistant(f"{n}!"), user("Thanks"), assistant("Bye")) for n in range(12)]
    assert codes(validate(write(tmp_path / "train.jsonl", *talks)).files[0]) == []


def test_free_text_answers_are_not_counted_as_labels(tmp_path: Path) -> None:
    examples = [chat(user(f"What is {n} squared?"), assistant(str(n * n))) for n in range(50)]
    assert validate(write(tmp_path / "train.jsonl", *examples)).files[0].answers == {}


def test_limits_of_the_whole_file_are_reported_without_a_line(tmp_path: Path) -> None:
    narrow = replace(OPENAI, max_file_bytes=100, max_image_examples=0)
    path = write(tmp_path / "train.jsonl", *good(10), chat(user([image()]), assistant()))
    [report] = validate(path, target=narrow).files
    assert codes(report) == [(None, "file_too_large"), (None, "too_many_image_examples")]


def test_findings_beyond_the_limit_are_counted_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "MAX_FINDINGS", 3)
    report = checked(tmp_path, *[b"{"] * 7)
    assert codes(report) == [(11, "invalid_json"), (12, "invalid_json"), (13, "invalid_json"), (None, "more_findings")]
    assert report.errors[-1].message.startswith("4 more findings are not listed: 4 invalid_json")
    assert report.error_counts == {"invalid_json": 7}


def test_many_findings_of_one_kind_do_not_hide_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "MAX_FINDINGS", 3)
    report = checked(tmp_path, *[b"{"] * 7, b"[]")
    assert (18, "not_an_object") in codes(report)


def test_a_file_that_cannot_be_opened_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(TrainingFileError, match=r"none\.jsonl: cannot be read: No such file"):
        validate(tmp_path / "none.jsonl")
    with pytest.raises(TrainingFileError, match="Is a directory"):
        validate(tmp_path)


def test_files_in_an_object_store_are_read_too(tmp_path: Path) -> None:
    local = write(tmp_path / "train.jsonl", *good(10))
    remote = UPath("memory://validation/train.jsonl")
    remote.parent.mkdir(parents=True, exist_ok=True)
    remote.write_bytes(local.read_bytes())
    assert validate(remote).files[0].sha256 == validate(str(local)).files[0].sha256


@given(st.binary(max_size=400))
def test_no_bytes_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "train.jsonl"
    path.write_bytes(data)
    [report] = validate(path).files
    if (None, "invalid_encoding") not in codes(report):  # lines of wide letters are counted otherwise
        assert report.n_lines == data.count(b"\n") + bool(data and not data.endswith(b"\n"))
    assert report.sha256 == hashlib.sha256(data).hexdigest()


@given(st.lists(json_values | st.builds(lambda m: {"messages": m}, messages | json_values), max_size=5))
def test_no_json_raises_and_every_line_is_an_example_or_has_an_error(
    tmp_path_factory: pytest.TempPathFactory, values: list[object]
) -> None:
    path = tmp_path_factory.mktemp("json") / "train.jsonl"
    path.write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in values))
    [report] = validate(path).files
    bad = {finding.line for finding in report.errors if finding.line is not None}
    assert report.n_examples + len(bad) == len(values) or (None, "wrong_format") in codes(report)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(n: int) -> int:
        path = write(tmp_path / f"{n}.jsonl", *[chat(user(f"{k} " + "x " * 50_000), assistant()) for k in range(n)])
        tracemalloc.start()
        validate(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(240) < peak(80) + 500_000  # the longer file has 16 MB more


def test_the_server_can_validate_without_pandas_dagster_or_sources() -> None:
    code = (
        "import sys, finetune_assets.training_file.validation;"
        "print([m for m in ('pandas', 'dagster', 'finetune_assets.dataset.sources', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
