"""The page that a user decides from."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.page import to_html
from finetune_assets.evaluation.benchmark.report import BenchmarkReport
from finetune_assets.task.answers import ChoiceAnswer, NumberAnswer, TextAnswer
from finetune_assets.task.costs import Prices, TokenPrices
from finetune_assets_tests.evaluation.predictions import choices, numbers, predictions, texts


class Page(HTMLParser):
    """Collects the text and the attributes of a page and checks that its elements are closed in order."""

    VOID = frozenset({"meta", "img", "br", "path", "circle"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def report() -> BenchmarkReport:
    return compare(predictions(fine_tuned=0.8))


def test_the_page_is_well_formed_and_loads_nothing_from_anywhere(report: BenchmarkReport) -> None:
    html = to_html(report, {"loss_curve": b"\x89PNG"}, {report.worst[0].example_id: "data:image/png;base64,AAAA"})
    page = Page(html)
    assert page.open == []
    assert page.sources == ["data:image/png;base64,iVBORw==", "data:image/png;base64,AAAA"]
    assert re.search(r"https?://|@import|url\(", html) is None


def test_subgroups_are_shown_where_the_source_has_some(report: BenchmarkReport) -> None:
    assert "By subgroup" not in Page(to_html(report)).text
    frame = predictions(fine_tuned=0.8)
    found = compare(frame.assign(subgroup=np.where(frame.index % 3 == 0, "old <camera>", "new camera")))
    text = Page(to_html(found)).text
    [new, old] = found.subgroups
    assert f"new camera {new.n} examples {100 * new.base.estimate:.1f}" in text
    assert f"old <camera> {old.n} examples {100 * old.base.estimate:.1f}" in text


@pytest.mark.parametrize(
    ("base", "fine_tuned", "headline"),
    [
        (0.5, 0.9, "Fine-tuning helped"),
        (0.9, 0.5, "Fine-tuning made it worse"),
        (0.7, 0.7, "No proof that fine-tuning helped"),
        (0.2, 0.55, "Better than the base model, no better than a constant answer"),
    ],
)
def test_the_headline_says_what_the_numbers_say(base: float, fine_tuned: float, headline: str) -> None:
    report = compare(predictions(base=base, fine_tuned=fine_tuned))
    text = Page(to_html(report)).text
    assert headline in text
    assert report.verdict in text


def test_every_metric_stands_there_with_its_interval(report: BenchmarkReport) -> None:
    text = Page(to_html(report)).text
    for row in report.comparisons.values():
        assert f"{100 * row.base.estimate:.1f} {100 * row.base.low:.1f} to {100 * row.base.high:.1f}" in text
        assert f"{100 * row.difference.estimate:+.1f} {100 * row.difference.low:+.1f} to" in text


def test_confusion_counts_stand_there(report: BenchmarkReport) -> None:
    text = Page(to_html(report)).text
    assert report.fine_tuned.confusion is not None
    (tp, fn, _), (fp, tn, _) = report.fine_tuned.confusion.counts
    assert f"Yes No unreadable Yes {tp} {fn} 0 No {fp} {tn} 0" in text


def test_what_models_and_users_wrote_cannot_break_the_page() -> None:
    frame = predictions(fine_tuned=0.7)
    frame["question"] = "<script>alert(1)</script>"
    frame["model"] = "a<b & $title"
    frame.loc[frame["role"] == "fine_tuned", ["text", "predicted"]] = ["</figure>", None]
    html = to_html(compare(frame), title="<b>mono</b>", note="blind & new")
    assert "<script" not in html
    text = Page(html).text
    assert "a<b & $title" in text
    assert "<b>mono</b>" in text
    assert "blind & new" in text
    assert "unreadable: “</figure>”" in text
    assert "120 unreadable answers of the fine-tuned model, counted as wrong" in text


def test_a_model_without_mistakes_has_no_worst_examples() -> None:
    text = Page(to_html(compare(predictions(fine_tuned=1.0)))).text
    assert "answered every test example correctly" in text


def test_examples_without_an_answer_are_mentioned() -> None:
    frame = predictions()
    frame.loc[frame["example_id"] == "cell0007", "error"] = "timed out"
    assert "1 requests of the fine-tuned model failed, counted as wrong" in Page(to_html(compare(frame))).text


def test_the_picture_of_a_confusion_matrix_is_shown_only_where_the_page_cannot_draw_it() -> None:
    pictured = {"confusion_matrix": b"\x89PNG"}
    for n, shown in ((3, False), (20, True)):
        options = [f"option {k}" for k in range(n)]
        report = compare(choices(options), ChoiceAnswer(kind="choice", options=options))
        text = Page(to_html(report, pictured)).text
        assert ("Confusion matrix" in text) == shown
        assert ("columns the answers given" in text) != shown


def test_prices_have_bands_both_trivial_models_and_arrows_for_what_is_better() -> None:
    report = compare(numbers(), NumberAnswer(kind="number", template="${}", tolerance_absolute=40))
    text = Page(to_html(report)).text
    bands = report.fine_tuned.bands or {}
    assert " ".join(f"{count} {100 * count / 150:.0f} %" for count in bands.values()) in text
    assert all(baseline.name in text for baseline in report.baselines)
    assert "Mean absolute error ↓" in text and "Answers within tolerance ↑" in text
    mae = report.comparisons["mae"]
    assert f"{mae.base.estimate:.2f} {mae.base.low:.2f} to {mae.base.high:.2f}" in text
    assert "those furthest off first" in text


def test_a_fall_in_error_is_drawn_as_a_gain() -> None:
    html = to_html(compare(numbers(), NumberAnswer(kind="number", template="${}")))
    row = html[html.index("Mean absolute error <abbr") :]
    assert '<svg class="gain"' in row[: row.index("</tr>")]


def test_texts_are_shown_with_what_both_models_wrote() -> None:
    frame = texts()
    frame["question"] = "long " * 200
    report = compare(frame, TextAnswer(kind="text"))
    text = Page(to_html(report)).text
    assert "An answer is right where it contains the true answer" in text
    assert report.worst[0].base_text is not None and f"“{report.worst[0].base_text}”" in text
    assert "long long …" in text or "lon…" in text or "long…" in text


def test_each_model_is_shown_with_how_fast_and_how_dear_it_was_and_the_champion_with_what_changes() -> None:
    frame = predictions(n=100).assign(prompt_tokens=1000, completion_tokens=10, latency_s=0.25)
    champion = frame.loc[frame["role"] == "base"].assign(role="champion", model="<ft:old>")
    report = compare(pd.concat([frame, champion]), prices=Prices(base=TokenPrices(input=2, output=10)))
    text = Page(to_html(report)).text
    assert "Base: base-model , answered in 0.25 s (95 % within 0.25 s), 101,000 tokens for 0.2100 USD" in text
    assert "Fine-tuned: fine_tuned-model , answered in 0.25 s (95 % within 0.25 s), 101,000 tokens Champion" in text
    assert "Champion until now: <ft:old> " in text and report.over_champion and report.over_champion.verdict in text
