"""How a person is shown what a stage made: pictures, tables and numbers for Dagster's metadata."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import pandas as pd
from upath import UPath

from finetune_assets.dataset import images
from finetune_assets.dataset.contact_sheets import contact_sheet
from finetune_assets.evaluation import charts
from finetune_assets.evaluation.benchmark.report import BenchmarkReport, MetricComparison, ModelResult
from finetune_assets.evaluation.calibration import Calibrator, Evidence, calibrated
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator, CoverageReport
from finetune_assets.evaluation.calibration.parts import Part
from finetune_assets.evaluation.calibration.report import CalibrationReport
from finetune_assets.evaluation.calibration.score_calibrator import EVENTS, ScoreCalibrator
from finetune_assets.evaluation.prediction import read_predictions
from finetune_assets.evaluation.statistics import in_words, p_words, signed_parts
from finetune_assets.results.files import address
from finetune_assets.task import Task
from finetune_assets.task.answers import Answer, NumberAnswer
from finetune_assets.training_file.findings import Report

N_PICTURES = 16
THUMB = 80
"""Side of a small image in pixels: sixteen of them take about 60 kB of the event log."""
N_CHATS = 3
_WORD_END = 16
_LONG_WORD = re.compile(r"\S{40,}")


def picture(png: bytes, caption: str = "") -> dg.MarkdownMetadataValue:
    """Show a PNG. It is stored in the event log, so it must be small."""
    return dg.MetadataValue.md(f"![{caption}](data:image/png;base64,{base64.b64encode(png).decode()})")


def page(path: UPath) -> dg.PathMetadataValue | dg.UrlMetadataValue:
    """Show where a page is: its path, or of one in an object store an address that a browser opens."""
    found = address(path)
    return dg.MetadataValue.url(found) if found.startswith(("http:", "https:")) else dg.MetadataValue.path(found)


def table(frame: pd.DataFrame, rows: int = 20) -> dg.MarkdownMetadataValue:
    """Show the first rows of a table, and say how many there are where they are more."""
    lines = [_line(frame.columns), _line("---" for _ in frame.columns)]
    lines += [_line(values) for values in frame.head(rows).itertuples(index=False)]
    if len(frame) > rows:
        lines.append(f"\nThe first {rows} of {len(frame):,} rows.")
    return dg.MetadataValue.md("\n".join(lines))


def findings(report: Report) -> dg.MarkdownMetadataValue:
    """Show the errors, then the warnings, with their lines."""
    rows = [
        {"severity": severity, "file": file.path, "line": finding.line, "code": finding.code, "what": finding.message}
        for severity in ("error", "warning")
        for file in report.files
        for finding in (file.errors if severity == "error" else file.warnings)
    ]
    return table(pd.DataFrame(rows)) if rows else dg.MetadataValue.md("Nothing was found wrong.")


def settings(hyperparameters: Mapping[str, Any]) -> str:
    """Say in words how the provider trained."""
    return ", ".join(f"{name} {value}" for name, value in hyperparameters.items() if value is not None)


def answers_chart(report: BenchmarkReport, predictions: pd.DataFrame, answer: Answer) -> tuple[str, bytes]:
    """Draw what both models answered, as suits the kind of answer; return the chart's name too."""
    if report.base.confusion and report.fine_tuned.confusion:
        return "confusion_matrix", charts.confusion_matrix(report.base.confusion, report.fine_tuned.confusion)
    if isinstance(answer, NumberAnswer):
        models = {
            "Base": read_predictions(predictions, "test", "base"),
            "Fine-tuned": read_predictions(predictions, "test", "fine_tuned"),
        }
        return "truth_against_guess", charts.truth_against_guess(models, answer)
    return "metric_intervals", charts.metric_intervals(report.comparisons)


def metrics(report: BenchmarkReport) -> dg.MarkdownMetadataValue:
    """Show every metric of the trivial models, the base and the fine-tuned model."""
    rows = []
    for name, row in report.comparisons.items():
        change, low, high = signed_parts(row.difference, row.scale, row.digits)
        rows.append(
            {
                "metric": f"{row.label} {'↑' if row.higher_is_better else '↓'}",
                **{start(trivial.name, 24): _shown(trivial.metrics[name], row) for trivial in report.baselines},
                "base": _shown(row.base.estimate, row),
                "fine-tuned": _shown(row.fine_tuned.estimate, row),
                "difference": f"{change} ({low} to {high})",
                "p": "" if row.p_value is None else p_words(row.p_value).removeprefix("p = "),
            }
        )
    note = (
        "Shares and correlations are times 100; beside a difference is its 95 % interval. ↑ higher is better, ↓ lower."
    )
    return dg.MetadataValue.md(f"{table(pd.DataFrame(rows)).value}\n\n{note}")


def subgroups(report: BenchmarkReport) -> dict[str, dg.MarkdownMetadataValue]:
    """Show the deciding metric of each subgroup; nothing where the source names none."""
    decisive = report.decisive
    rows = []
    for subgroup in report.subgroups:
        change, low, high = signed_parts(subgroup.difference, decisive.scale, decisive.digits)
        rows.append(
            {
                "subgroup": subgroup.name,
                "examples": subgroup.n,
                "base": _shown(subgroup.base.estimate, decisive),
                "fine-tuned": _shown(subgroup.fine_tuned.estimate, decisive),
                "difference": f"{change} ({low} to {high})",
                "p (Holm)": p_words(subgroup.p_value).removeprefix("p = "),
            }
        )
    return {"subgroups": table(pd.DataFrame(rows))} if rows else {}


def benchmark_numbers(report: BenchmarkReport) -> dict[str, Any]:
    """Return the numbers of the benchmark, which Dagster plots over time."""
    decisive = report.decisive
    return {
        "n_test": report.n,
        "n_unanswered": report.n_unanswered,
        "n_unparseable": report.fine_tuned.n_unparseable,
        **{f"base_{name}": row.base.estimate for name, row in report.comparisons.items()},
        **{f"fine_tuned_{name}": row.fine_tuned.estimate for name, row in report.comparisons.items()},
        "difference": decisive.difference.estimate,
        "difference_low": decisive.difference.low,
        "difference_high": decisive.difference.high,
        "p_value": report.p_value,
        **_of_model("base", report.base),
        **_of_model("fine_tuned", report.fine_tuned),
    }


def worst_examples(report: BenchmarkReport) -> dg.MarkdownMetadataValue:
    """Show the worst of what the fine-tuned model got wrong."""
    if not report.worst:
        return dg.MetadataValue.md("It got nothing wrong.")
    rows = [
        {
            "question": start(worst.question),
            "truth": start(worst.truth),
            "answer": start(worst.text),
            "base model": start(worst.base_text),
            "p_truth": worst.p_truth,
            "p_answer": worst.p_predicted,
            "example": worst.example_id,
        }
        for worst in report.worst
    ]
    words = table(pd.DataFrame(rows).dropna(axis="columns", how="all"))
    pictured = [(image, f"{w.truth}, said {w.predicted}") for w in report.worst for image in w.images]
    if not pictured:
        return words
    return dg.MetadataValue.md(f"{_sheet(pictured).value}\n\n{words.value}")


def thumbnails(report: BenchmarkReport) -> dict[str, str]:
    """Return small pictures of the worst examples, as data URLs by example id."""
    return {
        worst.example_id: images.data_url(contact_sheet([(one, "") for one in worst.images], thumb=THUMB), "image/png")
        for worst in report.worst
        if worst.images
    }


def base_model_note(task: Task, predictions: pd.DataFrame) -> str:
    """Return what must be known about the base model before a gain over it is believed, if anything."""
    if task.provider != "local" or not predictions["image"].notna().to_numpy().any():
        return ""
    return (
        "The bundled vision model is blind before fine-tuning: its projector is random, so the base model's answers "
        "about images are guesses. Compare with always giving the most frequent answer."
    )


def calibration_drawing(calibrator: Calibrator, test: Evidence) -> tuple[str, bytes]:
    """Draw the test split before and after calibration, or the intervals around its numbers; with the chart's name."""
    if isinstance(calibrator, ConformalCalibrator):
        return "intervals", charts.coverage(test.truth, test.score, *calibrator.intervals(test.score))
    event, after = EVENTS[calibrator.kind], calibrated(calibrator, test)
    return "reliability", charts.reliability(test.score, after, test.truth, test.groups, event)


def calibration_parts(parts: Mapping[str, Iterable[Part]]) -> dict[str, dg.MarkdownMetadataValue]:
    """Show the calibrated probabilities of each option, and in each subgroup."""
    return {
        f"probabilities_by_{what}": table(pd.DataFrame([_part(one) for one in each])) for what, each in parts.items()
    }


def calibration_numbers(report: CalibrationReport | CoverageReport) -> dict[str, Any]:
    """Return the numbers of the calibration on the test split."""
    if isinstance(report, CoverageReport):
        width = {} if report.median_width is None else {"median_width": report.median_width}
        return {"n_test": report.n, "level": report.level, "coverage": report.coverage.estimate, **width}
    return {
        "n_test": report.n,
        "ece_before": report.before.ece.estimate,
        "ece_after": report.after.ece.estimate,
        "brier_before": report.before.brier,
        "brier_after": report.after.brier,
        "log_loss_before": report.before.log_loss,
        "log_loss_after": report.after.log_loss,
        "log_loss_p": report.log_loss_p,
    }


def calibration_method(calibrator: Calibrator) -> str:
    """Say in words how scores become probabilities, and what the choice was made by."""
    losses = calibrator.held_out_log_loss if isinstance(calibrator, ScoreCalibrator) else None
    if losses is None:
        return calibrator.method
    compared = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
    return f"{calibrator.method}; log loss on held-out folds of the calibration split: {compared}"


def start(text: str | None, length: int = 200) -> str | None:
    """Cut a long text, and show that it was."""
    return text if text is None or len(text) <= length else f"{text[:length].rstrip()} …"


def harmless(text: str) -> str:
    """Show a text from outside in Markdown: whoever looks at it must not load what it names.

    Its backslashes are doubled first, as one before a mark of ours would take its force.
    """
    text = text.replace("\\", "\\\\").replace("\r", " ")
    return text.replace("<", "&lt;").replace("![", "!\\[").replace("](", "\\](").replace("]:", "\\]:")


def _part(part: Part) -> dict[str, Any]:
    happened, error = part.happened, part.error
    return {
        "part": part.name,
        "examples": part.n,
        "claimed": f"{part.claimed:.1%}",
        "happened": f"{happened.estimate:.1%} ({happened.low:.1%} to {happened.high:.1%})",
        "calibration error": f"{error.estimate:.3f} ({error.low:.3f} to {error.high:.3f})",
        "p (Holm)": "too few" if part.p_value is None else p_words(part.p_value).removeprefix("p = "),
    }


def _sheet(pictured: list[tuple[str, str]]) -> dg.MarkdownMetadataValue:
    return picture(contact_sheet(pictured, thumb=THUMB), "examples")


def _line(values: Iterable[Any]) -> str:
    return f"| {' | '.join(_cell(value) for value in values)} |"


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    text = in_words(value) if isinstance(value, float) else str(value)
    # A hash or a row of zeros would push the other columns out of the page.
    text = _LONG_WORD.sub(lambda word: f"{word[0][:_WORD_END]}…{word[0][-_WORD_END:]}", text)
    return harmless(text).replace("|", "\\|").replace("\n", " ")


def _of_model(name: str, result: ModelResult) -> dict[str, Any]:
    measured = {what: getattr(result, what) for what in ("median_latency_s", "p95_latency_s", "cost_usd")}
    return {f"{name}_{what}": value for what, value in measured.items() if value is not None}


def _shown(value: float | None, row: MetricComparison) -> str:
    return "" if value is None else f"{row.scale * value:,.{row.digits}f}"
