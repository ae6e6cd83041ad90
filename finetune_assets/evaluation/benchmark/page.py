"""The benchmark as one self-contained HTML page, from which a user decides whether to ship the fine-tuned model."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from finetune_assets.evaluation.benchmark.report import BenchmarkReport, MetricComparison, ModelResult, WorstExample
from finetune_assets.evaluation.benchmark.subgroups import Subgroup
from finetune_assets.evaluation.html_page import fill
from finetune_assets.evaluation.scoring.metric import Confusion
from finetune_assets.evaluation.statistics import Interval, p_words, signed_parts

HEADLINES = {
    "better": "Fine-tuning helped",
    "worse": "Fine-tuning made it worse",
    "inconclusive": "No proof that fine-tuning helped",
    "useless": "Better than the base model, no better than a constant answer",
}
MAX_LABELS = 12
"""Confusion matrices of more labels are too wide for a page; the picture of them is shown instead."""
MEASURES = {
    "binary": "An answer is right where it is the true word.",
    "choice": "An answer is right where it is the true option.",
    "score": "An answer is right where it is the true level. Quadratic agreement is 100 less the square of how far off "
    "it is, in shares of the scale; quadratic kappa is what of that is beyond chance.",
    "number": "An answer is right where it is within the tolerance that the task sets. Outliers are off by more than "
    "twice the true number. Answers without a number are wrong; the errors are of the examples that both models "
    "answered with one.",
    "text": "An answer is right where it contains the true answer, without its explanation, word for word. Token F1 "
    "and exact match compare the words of both; case, punctuation and articles make no difference.",
    "call": "An answer is right where it calls the true function with the true arguments. Right arguments is the share "
    "of the arguments, true and given ones together, that are the same.",
}


def to_html(
    report: BenchmarkReport,
    charts: Mapping[str, bytes] | None = None,
    thumbnails: Mapping[str, str] | None = None,
    title: str = "Benchmark",
    note: str = "",
) -> str:
    """Render the report; the page loads nothing from anywhere.

    `charts` are PNGs by name, shown below the figures, except a `confusion_matrix` so small that the page draws it
    itself; `thumbnails` are data URLs by example id, shown with the worst examples; `note` is a remark on the models,
    shown at the top.
    """
    outcome = "useless" if report.outcome == "better" and report.over_baseline.low <= 0 else report.outcome
    shown = {name: png for name, png in (charts or {}).items() if name != "confusion_matrix" or not _is_drawn(report)}
    return fill(
        Path(__file__).with_suffix(".html"),
        title=escape(title),
        outcome=outcome,
        headline=HEADLINES[outcome],
        verdict=escape(report.verdict),
        note=f"<p>{escape(note)}</p>" if note else "",
        facts=_facts(report),
        models="<br>".join(_models(report)),
        baselines="".join(f'<th scope="col" class="trivial">{escape(one.name)}</th>' for one in report.baselines),
        metrics="".join(_metric_row(report, name) for name in report.comparisons),
        level=f"{100 * report.decisive.difference.level:g}",
        measure=MEASURES[report.kind],
        subgroups=_subgroups("By subgroup", report.subgroups, report.decisive)
        + _subgroups("Clear and doubtful cases", report.by_doubt, report.decisive),
        answers=_answers(report),
        charts=_charts(shown),
        worst="".join(_worst_card(example, (thumbnails or {}).get(example.example_id)) for example in report.worst),
        worst_note=_worst_note(report),
    )


def _facts(report: BenchmarkReport) -> str:
    facts = [
        (str(report.n), "test examples, never seen in training"),
        (str(report.n_fixed), "of the base model's mistakes fixed"),
        (str(report.n_broken), "new mistakes made"),
    ]
    for name, result in (("fine-tuned", report.fine_tuned), ("base", report.base)):
        if result.n_failed:
            facts.append((str(result.n_failed), f"requests of the {name} model failed, counted as wrong"))
        if result.n_unparseable:
            facts.append((str(result.n_unparseable), f"unreadable answers of the {name} model, counted as wrong"))
    return "".join(f"<div><dd>{number}</dd><dt>{words}</dt></div>" for number, words in facts)


def _models(report: BenchmarkReport) -> Iterator[str]:
    """Name the models, and say how fast and how dear their answers were."""
    yield _model("Base", report.base)
    yield _model("Fine-tuned", report.fine_tuned)
    if against := report.over_champion:
        yield f"{_model('Champion until now', against.champion)}. {escape(against.verdict)}"


def _model(role: str, result: ModelResult) -> str:
    parts = [f"{role}: <code>{escape(result.model)}</code>"]
    if result.median_latency_s is not None:
        parts.append(f"answered in {result.median_latency_s:.2f} s (95 % within {result.p95_latency_s:.2f} s)")
    if counted := result.prompt_tokens + result.completion_tokens:
        usd = "" if result.cost_usd is None else f" for {result.cost_usd:,.4f} USD"
        parts.append(f"{counted:,} tokens{usd}")
    return ", ".join(parts)


def _metric_row(report: BenchmarkReport, name: str) -> str:
    row = report.comparisons[name]
    trivial = "".join(
        f'<td class="trivial">{"" if value is None else _number(value, row)}</td>'
        for value in (baseline.metrics[name] for baseline in report.baselines)
    )
    change, low, high = _signed(row.difference, row)
    p = "" if row.p_value is None else f"<small>{p_words(row.p_value)}</small>"
    arrow = "↑" if row.higher_is_better else "↓"
    meaning = "higher is better" if row.higher_is_better else "lower is better"
    return (
        f'<tr><th scope="row">{escape(row.label)} <abbr title="{meaning}">{arrow}</abbr></th>{trivial}'
        f"{_value_cell(row.base, row)}{_value_cell(row.fine_tuned, row)}"
        f"<td><b>{change}</b><small>{low} to {high}</small>{p}</td>"
        f'<td class="whisker">{_whisker(row, _reach(report, row))}</td></tr>'
    )


def _number(value: float, row: MetricComparison) -> str:
    return f"{row.scale * value:,.{row.digits}f}"


def _signed(difference: Interval, row: MetricComparison) -> tuple[str, str, str]:
    return signed_parts(difference, row.scale, row.digits)


def _value_cell(value: Interval, row: MetricComparison) -> str:
    estimate, low, high = (_number(part, row) for part in (value.estimate, value.low, value.high))
    return f"<td><b>{estimate}</b><small>{low} to {high}</small></td>"


def _reach(report: BenchmarkReport, row: MetricComparison) -> tuple[float, float]:
    """Return the differences at the edges of the drawing: shares are drawn on one scale, all others on their own."""
    alike = [other.difference for other in report.comparisons.values() if other.is_share] if row.is_share else []
    drawn = alike or [row.difference]
    least = 0.01 if row.is_share else 1e-9
    return min(0.0, *(d.low for d in drawn)), max(least, *(d.high for d in drawn))


def _whisker(row: MetricComparison, reach: tuple[float, float]) -> str:
    """Draw the interval of a difference around a line at zero; `reach` are the differences at its edges."""
    left, right = reach
    difference = row.difference
    zero, low, middle, high = (
        4 + 112 * (value - left) / (right - left) for value in (0, difference.low, difference.estimate, difference.high)
    )
    sign = "none" if difference.low <= 0 <= difference.high else "loss"
    if sign == "loss" and (difference.low > 0) == row.higher_is_better:
        sign = "gain"
    return (
        f'<svg class="{sign}" viewBox="0 0 120 16" aria-hidden="true"><path class="zero" d="M{zero:.1f} 0V16"/>'
        f'<path d="M{low:.1f} 8H{high:.1f}"/><circle cx="{middle:.1f}" cy="8" r="3.5"/></svg>'
    )


def _subgroups(title: str, parts: Sequence[Subgroup], decisive: MetricComparison) -> str:
    """Show the share of right answers in each part of the examples."""
    if not parts:
        return ""
    rows = "".join(_subgroup_row(part, decisive) for part in parts)
    return (
        f'<h2>{title}</h2><div class="card"><table class="metrics"><tr><th scope="col">Right answers</th>'
        '<th scope="col">Base</th><th scope="col">Fine-tuned</th><th scope="col">Difference</th></tr>'
        f'{rows}</table><p class="note below">Each p is raised for the number of subgroups (Holm).</p></div>'
    )


def _subgroup_row(subgroup: Subgroup, decisive: MetricComparison) -> str:
    change, low, high = _signed(subgroup.difference, decisive)
    return (
        f'<tr><th scope="row">{escape(_shortened(subgroup.name, 40))} <small>{subgroup.n:,} examples</small></th>'
        f"{_value_cell(subgroup.base, decisive)}{_value_cell(subgroup.fine_tuned, decisive)}"
        f"<td><b>{change}</b><small>{low} to {high}</small><small>{p_words(subgroup.p_value)}</small></td></tr>"
    )


def _answers(report: BenchmarkReport) -> str:
    """Show which answers were given: a small confusion matrix, or the bands of numbers, of each model."""
    pairs = (("Base", report.base), ("Fine-tuned", report.fine_tuned))
    if _is_drawn(report):
        tables = [_confusion(result.confusion) for _, result in pairs if result.confusion]
        note = "Rows are the true answers, columns the answers given."
    elif report.base.bands:
        tables = [_bands(result.bands or {}) for _, result in pairs]
        note = "Green is within the tolerance, orange within twice the tolerance, red the rest."
    else:
        return ""
    cards = (f'<div class="card"><h3>{name}</h3>{table}</div>' for (name, _), table in zip(pairs, tables, strict=True))
    return (
        f'<h2>Which answers were given</h2><div class="columns">{"".join(cards)}</div><p class="note below">{note}</p>'
    )


def _is_drawn(report: BenchmarkReport) -> bool:
    """Whether the page itself draws the confusion matrices."""
    return report.base.confusion is not None and len(report.base.confusion.labels) <= MAX_LABELS


def _bands(bands: Mapping[str, int]) -> str:
    shares = {band: 100 * count / max(1, sum(bands.values())) for band, count in bands.items()}
    head = "".join(f'<th scope="col">{band}</th>' for band in bands)
    cells = "".join(
        f'<td class="{band}" style="--share:{shares[band]:.0f}%">{count}<small>{shares[band]:.0f} %</small></td>'
        for band, count in bands.items()
    )
    return f'<table class="confusion bands"><tr>{head}</tr><tr>{cells}</tr></table>'


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
        f'alt="{escape(name)}"><figcaption>{escape(name.replace("_", " ").capitalize())}</figcaption></figure>'
        for name, png in charts.items()
    )


def _worst_card(example: WorstExample, thumbnail: str | None) -> str:
    picture = f'<img src="{escape(thumbnail)}" alt="">' if thumbnail else ""
    unread = (
        f"nothing: {_shortened(example.error, 60)}"
        if example.error
        else f"unreadable: “{_shortened(example.text or '', 60)}”"
    )
    answered = _shortened(example.predicted or unread)
    sure = ""
    if example.p_truth is not None:
        sure = f"<p>It gave the truth {100 * example.p_truth:.1f}&nbsp;%.</p>"
    elif example.p_predicted is not None:
        sure = f"<p>It gave its words {100 * example.p_predicted:.0f}&nbsp;% each.</p>"
    return (
        f'<figure class="example">{picture}<figcaption>'
        f'<p class="question">{escape(_shortened(example.question, 240))}</p>'
        f"<p>Truth <b>{escape(_shortened(example.truth))}</b> · answered <b>{escape(answered)}</b></p>{sure}"
        f"<p>The base model was {'right' if example.base_correct else 'wrong too'}"
        f": “{escape(_shortened(example.base_text or '', 80))}”</p>"
        f"<p><code>{escape(example.example_id)}</code></p></figcaption></figure>"
    )


def _shortened(text: str, length: int = 160) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _worst_note(report: BenchmarkReport) -> str:
    n_wrong = round(report.n * (1 - (report.fine_tuned.metrics[report.primary] or 0)))
    order = "those furthest off first" if report.kind == "number" else "its surest mistakes first"
    if n_wrong == 0:
        return "The fine-tuned model answered every test example correctly."
    if n_wrong == len(report.worst):
        return f"Everything the fine-tuned model got wrong ({n_wrong}), {order}."
    return f"{len(report.worst)} of the {n_wrong} answers the fine-tuned model got wrong, {order}."
