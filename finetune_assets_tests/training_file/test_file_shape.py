import gzip
import json
from pathlib import Path

import pytest

from finetune_assets.training_file.findings import FileReport
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.training_file.chats import codes, good

EXAMPLES = good(12)
LINES = "\n".join(map(json.dumps, EXAMPLES)) + "\n"


def report_on(folder: Path, data: bytes) -> FileReport:
    path = folder / "train.jsonl"
    path.write_bytes(data)
    return validate(path).files[0]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (json.dumps(EXAMPLES, indent=2), "is one JSON array, not JSON Lines (of 12 items); write one object a line"),
        (json.dumps(EXAMPLES), "is one JSON array, not JSON Lines (of 12 items)"),
        ("[\n" + ",\n".join(map(json.dumps, EXAMPLES)) + "\n]\n", "is one JSON array"),
        ("\ufeff" + json.dumps(EXAMPLES, indent=4), "is one JSON array"),
        (json.dumps(EXAMPLES, indent=2)[:-3] + ",\n]", "breaks off at line"),
        ("\n".join(json.dumps(example, indent=2) for example in EXAMPLES), "objects stand on several lines each"),
        (json.dumps({"train": EXAMPLES}, indent=2), "one JSON object with the examples under 'train'"),
    ],
)
def test_another_shape_is_one_finding_with_the_way_to_mend_it(tmp_path: Path, written: str, told: str) -> None:
    report = report_on(tmp_path, written.encode())
    assert codes(report) == [(None, "wrong_format")]
    assert told in report.errors[0].message
    assert report.n_lines == len(written.splitlines())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_wide_letters_are_one_finding_and_their_lines_are_counted(tmp_path: Path, encoding: str, ending: str) -> None:
    report = report_on(tmp_path, LINES.replace("\n", ending).encode(encoding))
    assert (codes(report), report.n_lines) == ([(None, "invalid_encoding")], 12)
    assert "save it as UTF-8" in report.errors[0].message


def test_an_archive_is_named(tmp_path: Path) -> None:
    report = report_on(tmp_path, gzip.compress(LINES.encode()))
    assert codes(report) == [(None, "wrong_format")]
    assert "gunzip" in report.errors[0].message


def test_a_bracket_before_sound_lines_is_a_mistake_of_its_line(tmp_path: Path) -> None:
    assert codes(report_on(tmp_path, b"[\n" + LINES.encode())) == [(1, "invalid_json")]
    assert codes(report_on(tmp_path, b"[]\n" + LINES.encode())) == [(1, "not_an_object")]


def test_a_first_line_that_is_cut_off_hides_no_other(tmp_path: Path) -> None:
    report = report_on(tmp_path, b'{"messages": [\n' + LINES.encode())
    assert (codes(report), report.n_examples) == ([(1, "invalid_json")], 12)
