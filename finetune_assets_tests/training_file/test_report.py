from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.training_file import findings
from finetune_assets.training_file.findings_page import MAX_ROWS
from finetune_assets.training_file.report import to_html
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.training_file.chats import assistant, chat, good, image, text, user, write

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects text, images and addresses, and checks that every tag is closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.images += [value or "" for name, value in attrs if tag == "img" and name == "src"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(folder: Path, *lines: dict[str, Any] | bytes, estimate: str = "") -> Page:
    report = validate(write(folder / "train.jsonl", *good(10), *lines))
    preview = [line for line in lines if isinstance(line, dict)]
    return Page(to_html(report, preview, estimate))


def test_a_clean_report_says_ready_and_what_it_costs(tmp_path: Path) -> None:
    found = page(tmp_path, estimate="Two epochs cost about $0.42.")
    assert "ready to upload 0 errors, 0 warnings. Two epochs cost about $0.42." in found.text
    assert "Examples 10 of 10 lines" in found.text
    assert "No 5 (50%)" in found.text


def test_findings_are_listed_by_code_with_lines_and_advice(tmp_path: Path) -> None:
    found = page(tmp_path, b"[]", b"", b"[]")
    assert "not ready 2 errors, 1 warning." in found.text
    assert "Errors 2 not_an_object line 11 found a list of 0; write one JSON object" in found.text
    assert "Warnings 1 blank_line line 12 the line is empty" in found.text


def test_repeated_and_leaked_examples_have_sections_of_their_own(tmp_path: Path) -> None:
    training = write(tmp_path / "train.jsonl", *good(10), *good(1), chat(user("Is 2 even?"), assistant("No")))
    report = validate(training, write(tmp_path / "validation.jsonl", *good(1)))
    found = Page(to_html(report, [], ""))
    assert "Duplicates and contradictions 2 contradictory_answers line 3" in found.text
    assert "1 duplicate_example line 11 the same example as line 1" in found.text
    assert "Shared with the training file 1 leak line 1 the same question is in line 1" in found.text


def test_many_codes_begin_with_links_to_them(tmp_path: Path) -> None:
    bad = [b"[]", b"{", {}, {"messages": []}]
    assert "#file-1-empty_messages" in page(tmp_path, *bad).addresses
    assert page(tmp_path, *bad[:3]).addresses == []


def test_charts_show_tokens_and_messages_of_examples(tmp_path: Path) -> None:
    found = page(tmp_path, chat(user("Why?"), assistant("So."), user("Why is that?"), assistant("As I said.")))
    assert "Tokens per example 16\N{EN DASH}31 11 (100%)" in found.text
    assert "Messages per example 2 10 (91%) 4 1 (9%)" in found.text


def test_many_lengths_of_talks_are_joined_to_ranges(tmp_path: Path) -> None:
    talks = [chat(*[user(f"{n}, {k}?"), assistant(f"{k}.")] * n) for k, n in enumerate(range(1, 17))]
    assert "16\N{EN DASH}31 8" in page(tmp_path, *talks).text


def test_examples_are_shown_with_their_images_and_nothing_is_loaded(tmp_path: Path) -> None:
    found = page(tmp_path, chat(user([image(), text("Is it cracked?")]), assistant()))
    assert "user Is it cracked? assistant Yes" in found.text
    assert len(found.images) == 1
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)


def test_hostile_contents_are_shown_as_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    url = f'data:image/png;base64,AAAA"onerror="alert(1){evil}'
    found = page(tmp_path, chat(user([text(evil), image(url)]), assistant(evil, name=evil)), chat({"role": evil}))
    assert "script" not in found.open
    assert found.images == []
    assert evil in found.text


def test_a_preview_that_is_no_conversation_does_no_harm(tmp_path: Path) -> None:
    found = page(tmp_path, {}, {"messages": 5}, {"messages": [5, {"role": 5, "content": [5, {"type": 5}]}]})
    assert "no messages" in found.text


def test_long_lists_of_findings_are_cut_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = good(2 * MAX_ROWS, start=100)
    found = page(tmp_path, *others, *[b"{"] * (MAX_ROWS + 50))
    assert f"{MAX_ROWS + 50} invalid_json" in found.text
    assert "50 more; the JSON report lists them." in found.text
    assert found.text.count("unexpected end of data") == MAX_ROWS
    monkeypatch.setattr(findings, "MAX_FINDINGS", MAX_ROWS + 20)
    found = page(tmp_path, *others, *[b"{"] * (MAX_ROWS + 50))
    assert "50 more; the JSON report lists the first 20 of them." in found.text
    assert "more_findings" not in found.text
