from pathlib import Path

from finetune_assets.training_file.validation import validate
from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, good, image, text, user, write


def test_what_most_lines_have_in_common_is_one_finding_that_counts_them(tmp_path: Path) -> None:
    lines = [chat(user([text(f"{n}?"), image(f"ftp://example.com/{n}.png")]), assistant()) for n in range(25)]
    report = checked(tmp_path, *lines)
    assert codes(report) == [(11, "image_invalid")]
    assert "'ftp://example.com/0.png' (and the same in 24 more lines)" in report.errors[0].message
    assert report.error_counts == {"image_invalid": 1}


def test_what_a_part_of_the_lines_have_in_common_is_told_of_each(tmp_path: Path) -> None:
    report = checked(tmp_path, *good(50, start=100), *[b"{"] * 12)
    assert codes(report) == [(line, "invalid_json") for line in range(61, 73)]


def test_another_finding_on_a_line_is_not_hidden_by_one_cause(tmp_path: Path) -> None:
    lines = [chat(user(f"{n}?", mood="gay"), assistant("" if n == 7 else str(n))) for n in range(25)]
    assert codes(checked(tmp_path, *lines)) == [(18, "empty_content"), (11, "unknown_key")]


def test_leaks_and_repeats_are_told_of_each_line(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", *good(12))
    assert codes(validate(path, path).files[1]) == [(line, "leak") for line in range(1, 13)]
    twice = write(tmp_path / "twice.jsonl", *good(12), *good(12))
    assert codes(validate(twice).files[0]) == [(line, "duplicate_example") for line in range(13, 25)]


def test_few_examples_are_told_only_where_mending_lines_does_not_help(tmp_path: Path) -> None:
    mended = write(tmp_path / "a.jsonl", *good(8), b"{", b"{")
    few = write(tmp_path / "b.jsonl", *good(7), b"{", b"")
    assert codes(validate(mended).files[0]) == [(9, "invalid_json"), (10, "invalid_json")]
    assert [code for _, code in codes(validate(few).files[0])] == ["invalid_json", "too_few_examples", "blank_line"]
