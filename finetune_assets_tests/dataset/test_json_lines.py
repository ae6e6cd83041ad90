import io
import sys
from pathlib import Path
from typing import Any

import fsspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset import json_lines
from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.errors import TrainingFileError


def read(tmp_path: Path, data: bytes) -> list[tuple[int, Any]]:
    path = tmp_path / "file.jsonl"
    path.write_bytes(data)
    return list(lines(path))


def codes(found: list[tuple[int, Any]]) -> list[str]:
    return [value.code if isinstance(value, JsonProblem) else "ok" for _, value in found]


def test_objects_come_with_their_line_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, b'{"a": 1}\n{"b": "\xc3\xa9"}') == [(1, {"a": 1}), (2, {"b": "é"})]


def test_one_bad_line_never_hides_the_others(tmp_path: Path) -> None:
    data = b'{"a": 1}\n{"a": \n\n[1]\nnull\n\xff\xff\n"\x00"\nNaN\n{"a": 2}\n'
    problems = ["invalid_json", "blank_line", "not_an_object", "not_an_object", "invalid_encoding"]
    assert codes(read(tmp_path, data)) == ["ok", *problems, "invalid_json", "invalid_json", "ok"]


def test_a_truncated_line_is_said_to_be_cut_off(tmp_path: Path) -> None:
    [(number, problem)] = read(tmp_path, b'{"messages": [{"role": "user"')
    assert number == 1
    assert problem.code == "invalid_json"
    assert "column 30" in problem.message
    assert "cut off" in problem.message


def test_utf_16_is_recognised(tmp_path: Path) -> None:
    [(_, first), *_] = read(tmp_path, '{"a": 1}\n'.encode("utf-16"))
    assert first == JsonProblem("invalid_encoding", "the text looks like UTF-16; save the file as UTF-8")


def test_the_byte_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    [(_, problem)] = read(tmp_path, b'{"a": "caf\xe9"}')
    assert problem.message == "byte 0xe9 at position 11 is not UTF-8; save the file as UTF-8"


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbf{"a": 1}\n') == [(1, {"a": 1})]


def test_nesting_deeper_than_the_stack_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    assert codes(read(tmp_path, b"[" * 200_000 + b'\n{"a": 1}')) == ["invalid_json", "ok"]


def test_an_overlong_line_is_skipped_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 64)
    data = b'{"a": "' + b"x" * 1000 + b'"}\n{"a": 2}\n'
    assert codes(read(tmp_path, data)) == ["line_too_long", "ok"]


def test_a_line_of_exactly_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 9)
    assert read(tmp_path, b'{"a": 1}\n{"a": 2}\n') == [(1, {"a": 1}), (2, {"a": 2})]


@given(st.binary(max_size=300))
def test_any_bytes_give_one_result_a_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    found = read(tmp_path_factory.mktemp("any"), data)
    expected = data.count(b"\n") + bool(data and not data.endswith(b"\n"))
    assert [number for number, _ in found] == list(range(1, expected + 1))


@given(st.lists(st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.integers(-(2**53), 2**53))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, Any]]) -> None:
    data = b"".join(orjson.dumps(value) + b"\n" for value in objects)
    assert [value for _, value in read(tmp_path_factory.mktemp("written"), data)] == objects


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        (3, "a number (3)"),
        ("no", "the text 'no'"),
        ([1, 2], "a list of 2"),
        ({}, "an object"),
    ],
)
def test_kind_names_a_value_as_json_does(value: object, words: str) -> None:
    assert json_lines.kind(value) == words


def test_kind_cuts_long_texts() -> None:
    assert json_lines.kind("x" * 100) == f"the text {'x' * 37 + '...'!r}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": 1,}', "there is a comma before } at column 8"),
        ('{"a": [1, ]}', "there is a comma before ] at column 9"),
        ('{"a": 1},', "there is a comma after the object at column 9"),
        ('{"a": 1},{"b": 2}', "there is a comma at column 9"),
        ('{"a": 1,, "b": 2}', "there is a comma at column 9"),
        ('{"a": NaN}', "NaN at column 7, near '{\"a\": NaN}', is no JSON; write null, or leave the key out"),
        ('{"a": -Infinity}', "-Infinity at column 7"),
        ('{"a": [nan, 1]}', "nan at column 8"),
        ('{"a": True}', "True at column 7, near '{\"a\": True}', is no JSON; write true"),
        ('{"a": None}', "is no JSON; write null"),
        (
            "{\u201ca\u201d: 1}",
            "the quote \u201c at column 2, near '{\u201ca\u201d: 1}', is none of JSON; write the straight \"",
        ),
        ('{"a": \u00abx\u00bb}', "the quote \u00ab at column 7"),
        ("{'a': 1}", "the quote ' at column 2"),
        ('{"a": 1} {"b": 2}', "a second object begins at column 10"),
        ('{"a" 1}', "expected ':' after key at column 6"),
    ],
)
def test_the_cause_is_named_with_its_column(tmp_path: Path, line: str, told: str) -> None:
    [(_, problem)] = read(tmp_path, line.encode())
    assert problem.code == "invalid_json"
    assert told in problem.message


class Limitless:
    """A file that reads lines of any length, as those of some stores do."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.read, self.close = self._data.read, self._data.close

    def readline(self) -> bytes:
        return self._data.readline()


class LimitlessStore(fsspec.AbstractFileSystem):
    """A store of such files."""

    protocol = "limitless"

    def open(self, *_: Any, **__: Any) -> Any:
        return Limitless(b'{"a": 1}\n{"a": 2}\n')


def test_files_of_stores_that_cannot_limit_a_line_are_read_too() -> None:
    fsspec.register_implementation("limitless", LimitlessStore, clobber=True)
    assert [value for _, value in lines("limitless://bucket/train.jsonl")] == [{"a": 1}, {"a": 2}]


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(TrainingFileError, match=r"gs://bucket/a.jsonl: reading gs:// needs gcsfs.*pip install gcsfs"):
        list(lines("gs://bucket/a.jsonl"))


def test_an_address_of_no_known_kind_is_refused() -> None:
    with pytest.raises(TrainingFileError, match="nosuch://a.jsonl: cannot be read: .*nosuch"):
        list(lines("nosuch://a.jsonl"))


def test_a_key_that_stands_twice_in_an_object_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": "yes", "a": "no"}\n{"a": "it says \\"a\\": no"}\n{"b": [{"c": 1, "c": 2}]}\n')
    first, second, third = (found for _, found in lines(path))
    assert isinstance(first, JsonProblem) and first.message.startswith("the key 'a' stands twice in one object")
    assert second == {"a": 'it says "a": no'}
    assert isinstance(third, JsonProblem) and third.code == "duplicate_key"
