"""The benchmark as one self-contained HTML page, from which a user decides whether to ship the fine-tuned model."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template

from finetune_assets.evaluation.benchmark_report import BenchmarkReport, MetricComparison, WorstExample
from finetune_assets.evaluation.scoring import Confusion
from finetune_assets.evaluation.statistics import Interval, p_words, signed_parts

HEADLINES = {
    "better": "Fine-tuning helped",
    "worse": "Fine-tuning made it worse",
    "inconclusive": "No proof that fine-tuning helped",
}
METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
}


def to_html(
    report: BenchmarkReport,
    charts: Mapping[str, bytes] | None = None,
    thumbnails: Mapping[str, str] | None = None,
    title: str = "Benchmark",
    note: str = "",
) -> str:
    """Render the report; the page loads nothing from anywhere.

    `charts` are PNGs by caption, shown below the figures (the page draws the confusion matrices itself); `thumbnails`
    are data URLs by example id, shown with the worst examples; `note` is a remark on the models, shown at the top.
    """
    differences = [row.difference for row in report.comparisons.values()]
    reach = min(0.0, *(d.low for d in differences)), max(0.01, *(d.high for d in differences))
    return Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        outcome=report.outcome,
        headline=HEADLINES[report.outcome],
        verdict=escape(report.verdict),
        baseline=escape(_against_majority(report)),
        note=f"<p>{escape(note)}</p>" if note else "",
        facts=_facts(report),
        base_model=escape(report.base.model),
        fine_tuned_model=escape(report.fine_tuned.model),
        metrics="".join(_metric_row(METRIC_NAMES[name], row, reach) for name, row in report.comparisons.items()),
        level=f"{100 * report.difference.level:g}",
        mcnemar=p_words(report.p_value),
        base_confusion=_confusion(report.base.metrics.confusion),
        fine_tuned_confusion=_confusion(report.fine_tuned.metrics.confusion),
        charts=_charts(charts or {}),
        worst="".join(_worst_card(example, (thumbnails or {}).get(example.example_id)) for example in report.worst),
        worst_note=_worst_note(report),
    )


def _against_majority(report: BenchmarkReport) -> str:
    gain = report.over_majority
    beats = "beats" if gain.low > 0 else "is not shown to beat"
    change, low, high = signed_parts(gain, scale=100)
    return (
        f"The fine-tuned model {beats} one that always answers “{report.majority_answer}” and is right in "
        f"{100 * report.majority_accuracy:.1f} %: {change} points ({100 * gain.level:g} % interval {low} to {high})."
    )


def _facts(report: BenchmarkReport) -> str:
    facts = [
        (str(report.n), "test examples, never seen in training"),
        (str(report.n_fixed), "of the base model's mistakes fixed"),
        (str(report.n_broken), "new mistakes made"),
    ]
    if unparseable := report.fine_tuned.metrics.n_unparseable:
        facts.append((str(unparseable), "unreadable answers of the fine-tuned model, counted as wrong"))
    if report.n_unanswered:
        facts.append((str(report.n_unanswered), "left out, because a request failed"))
    return "".join(f"<div><dd>{number}</dd><dt>{words}</dt></div>" for number, words in facts)


def _metric_row(name: str, row: MetricComparison, reach: tuple[float, float]) -> str:
    change, low, high = signed_parts(row.difference, scale=100)
    return (
        f'<tr><th scope="row">{name}</th>{_value_cell(row.base)}{_value_cell(row.fine_tuned)}'
        f"<td><b>{change}</b><small>{low} to {high}</small></td>"
        f'<td class="whisker">{_whisker(row.difference, reach)}</td></tr>'
    )


def _value_cell(value: Interval) -> str:
    estimate, low, high = (part.lstrip("+") for part in signed_parts(value, scale=100))
    return f"<td><b>{estimate}</b><small>{low} to {high}</small></td>"


def _whisker(difference: Interval, reach: tuple[float, float]) -> str:
    """Draw the interval of a difference around a line at zero; `reach` are the differences at its edges."""
    left, right = reach
    zero, low, middle, high = (
        4 + 112 * (value - left) / (right - left) for value in (0, difference.low, difference.estimate, difference.high)
    )
    sign = "gain" if difference.low > 0 else "loss" if difference.high < 0 else "none"
    return (
        f'<svg class="{sign}" viewBox="0 0 120 16" aria-hidden="true"><path class="zero" d="M{zero:.1f} 0V16"/>'
        f'<path d="M{low:.1f} 8H{high:.1f}"/><circle cx="{middle:.1f}" cy="8" r="3.5"/></svg>'
    )


def _confusion(confusion: Confusion) -> str:
    """Draw the counts, each shaded by its share of its row."""
    head = "".join(f'<th scope="col">{escape(answer)}</th>' for answer in (*confusion.labels, "unreadable"))
    rows = ""
    for i, (label, row) in enumerate(zip(confusion.labels, confusion.counts, strict=True)):
        shares = [100 * count / max(1, sum(row)) for count in row]
        cells = "".join(
            f'<td class="{"right" if k == i else "wrong"}" style="--share:{shares[k]:.0f}%">{count}</td>'
            for k, count in enumerate(row)
        )
        rows += f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>'
    return f'<table class="confusion"><tr><th></th>{head}</tr>{rows}</table>'


def _charts(charts: Mapping[str, bytes]) -> str:
    return "".join(
        f'<figure class="chart"><img src="data:image/png;base64,{base64.b64encode(png).decode()}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, png in charts.items()
    )


def _worst_card(example: WorstExample, thumbnail: str | None) -> str:
    picture = f'<img src="{escape(thumbnail)}" alt="">' if thumbnail else ""
    answered = example.predicted or f"unreadable: “{(example.text or '')[:60]}”"
    sure = "" if example.p_truth is None else f"<p>It gave the truth {100 * example.p_truth:.1f}&nbsp;%.</p>"
    return (
        f'<figure class="example">{picture}<figcaption><p class="question">{escape(example.question)}</p>'
        f"<p>Truth <b>{escape(example.truth)}</b> · answered <b>{escape(answered)}</b></p>{sure}"
        f"<p>The base model was {'right' if example.base_correct else 'wrong too'}.</p>"
        f"<p><code>{escape(example.example_id)}</code></p></figcaption></figure>"
    )


def _worst_note(report: BenchmarkReport) -> str:
    n_wrong = round(report.n * (1 - report.fine_tuned.metrics.accuracy))
    if n_wrong == 0:
        return "The fine-tuned model answered every test example correctly."
    if n_wrong == len(report.worst):
        return f"Everything the fine-tuned model got wrong ({n_wrong}), its surest mistakes first."
    return f"The {len(report.worst)} surest of the fine-tuned model's {n_wrong} mistakes."
