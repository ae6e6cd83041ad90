from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from finetune_assets.training_file.findings import FileReport, Finding, Report
from finetune_assets.training_file.report import MAX_ROWS, to_html
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


def test_findings_are_listed_with_line_code_and_advice(tmp_path: Path) -> None:
    found = page(tmp_path, b"[]", b"")
    assert "not ready 1 error, 1 warning." in found.text
    assert "11 not_an_object found a list of 0; write one JSON object" in found.text
    assert "12 blank_line" in found.text


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


def test_long_lists_of_findings_are_cut_and_counted() -> None:
    errors = [Finding(n, "invalid_json", "cut off") for n in range(1, MAX_ROWS + 51)]
    file = FileReport(path="/data/x.jsonl", sha256="0" * 64, bytes=5, n_lines=250, n_examples=0, n_images=0,
                      tokens_total=0, tokens_max=0, errors=errors)  # fmt: skip
    found = Page(to_html(Report([file]), [], ""))
    assert "250 invalid_json" in found.text
    assert "50 more are in the JSON report." in found.text
    assert found.text.count("cut off") == MAX_ROWS
