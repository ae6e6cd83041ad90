"""How a person is shown what a stage made: pictures, tables and numbers for Dagster's metadata."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import dagster as dg
import pandas as pd

from finetune_assets.dataset import images
from finetune_assets.evaluation import charts
from finetune_assets.evaluation.benchmark_report import BenchmarkReport
from finetune_assets.evaluation.calibration import CalibrationReport
from finetune_assets.task import SPLITS, BinaryAnswer, Task
from finetune_assets.training_file.chat_format import to_messages
from finetune_assets.training_file.findings import Report
from finetune_assets.training_file.tokens import example_tokens

N_PICTURES = 16
THUMB = 80
"""Side of a small image in pixels: sixteen of them take about 60 kB of the event log."""
N_CHATS = 3
N_TOKEN_COUNTS = 2_000
"""Examples whose tokens are counted for the histogram: enough for its shape, whatever the size of the file."""


def picture(png: bytes, caption: str = "") -> dg.MarkdownMetadataValue:
    """Show a PNG. It is stored in the event log, so it must be small."""
    return dg.MetadataValue.md(f"![{caption}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(frame: pd.DataFrame, rows: int = 20) -> dg.MarkdownMetadataValue:
    """Show the first rows of a table, and say how many there are where they are more."""
    lines = [_line(frame.columns), _line("---" for _ in frame.columns)]
    lines += [_line(values) for values in frame.head(rows).itertuples(index=False)]
    if len(frame) > rows:
        lines.append(f"\nThe first {rows} of {len(frame):,} rows.")
    return dg.MetadataValue.md("\n".join(lines))


def counts(examples: pd.DataFrame, answer: BinaryAnswer) -> pd.DataFrame:
    """Count examples by split (rows) and answer (columns); rows without a split are not counted."""
    crossed = pd.crosstab(examples["split"], examples["answer"])
    crossed = crossed.reindex(index=list(SPLITS), columns=[answer.positive, answer.negative], fill_value=0)
    return crossed.rename_axis(index="split", columns=None)


def contact_sheet(examples: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """Show the first examples that have a whole image, with split, answer and score."""
    shown = examples.loc[examples["image_sha256"].notna()].head(N_PICTURES)
    if shown.empty:
        return dg.MetadataValue.md("No example has an image that can be read.")
    captions = [_caption(row) for row in shown.to_dict("records")]
    return _sheet(list(zip(shown["image"], captions, strict=True)))


def chats(examples: pd.DataFrame, task: Task) -> dg.MarkdownMetadataValue:
    """Show the first training examples as the conversations they become."""
    training = examples.loc[examples["split"] == "train"].head(N_CHATS).to_dict("records")
    return dg.MetadataValue.md("\n\n---\n\n".join(_chat(task, row) for row in training))


def token_histogram(examples: pd.DataFrame, task: Task) -> dg.MarkdownMetadataValue:
    """Show how long the training examples are, images included as the base model's provider counts them."""
    training = examples.loc[examples["split"] == "train"].head(N_TOKEN_COUNTS).to_dict("records")
    lengths = [
        example_tokens(_messages(task, row), task.base_model, [(row["image_width"], row["image_height"])])
        for row in training
    ]
    if not lengths:
        return dg.MetadataValue.md("There is nothing to train on.")
    return picture(charts.histogram(lengths, "Length of the training examples", "tokens"))


def findings(report: Report) -> dg.MarkdownMetadataValue:
    """Show the errors, then the warnings, with their lines."""
    rows = [
        {"severity": severity, "file": file.path, "line": finding.line, "code": finding.code, "what": finding.message}
        for severity in ("error", "warning")
        for file in report.files
        for finding in (file.errors if severity == "error" else file.warnings)
    ]
    return table(pd.DataFrame(rows)) if rows else dg.MetadataValue.md("Nothing was found wrong.")


def losses(steps: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """Show the loss curve of a job."""
    if steps[list(charts.LOSSES)].isna().to_numpy().all():
        return dg.MetadataValue.md("The provider reported no losses.")
    return picture(charts.loss_curve(steps), "loss curve")


def benchmark_numbers(report: BenchmarkReport) -> dict[str, Any]:
    """Return the numbers of the benchmark, which Dagster plots over time."""
    accuracy = report.comparisons["accuracy"]
    return {
        "n_test": report.n,
        "n_unanswered": report.n_unanswered,
        "base_accuracy": accuracy.base.estimate,
        "fine_tuned_accuracy": accuracy.fine_tuned.estimate,
        "difference": accuracy.difference.estimate,
        "difference_low": accuracy.difference.low,
        "difference_high": accuracy.difference.high,
        "p_value": report.p_value,
    }


def worst_examples(report: BenchmarkReport) -> dg.MarkdownMetadataValue:
    """Show what the fine-tuned model got wrong most confidently."""
    if not report.worst:
        return dg.MetadataValue.md("It got nothing wrong.")
    rows = [
        {"example": w.example_id, "question": w.question, "truth": w.truth, "answer": w.text, "p_truth": w.p_truth}
        for w in report.worst
    ]
    words = table(pd.DataFrame(rows))
    pictured = [(w.image, f"{w.truth}, said {w.predicted}") for w in report.worst if w.image is not None]
    if not pictured:
        return words
    return dg.MetadataValue.md(f"{_sheet(pictured).value}\n\n{words.value}")


def thumbnails(report: BenchmarkReport) -> dict[str, str]:
    """Return small pictures of the worst examples, as data URLs by example id."""
    return {
        worst.example_id: images.data_url(images.contact_sheet([(worst.image, "")], thumb=THUMB), "image/png")
        for worst in report.worst
        if worst.image is not None
    }


def base_model_note(task: Task, predictions: pd.DataFrame) -> str:
    """Return what must be known about the base model before a gain over it is believed, if anything."""
    if task.provider != "local" or not predictions["image"].notna().to_numpy().any():
        return ""
    return (
        "The bundled vision model is blind before fine-tuning: its projector is random, so the base model's answers "
        "about images are guesses. Compare with always giving the most frequent answer."
    )


def calibration_numbers(report: CalibrationReport) -> dict[str, Any]:
    """Return the numbers of the calibration on the test split."""
    return {
        "n_test": report.n,
        "ece_before": report.before.ece.estimate,
        "ece_after": report.after.ece.estimate,
        "brier_before": report.before.brier,
        "brier_after": report.after.brier,
        "log_loss_before": report.before.log_loss,
        "log_loss_after": report.after.log_loss,
    }


def _sheet(pictured: list[tuple[str, str]]) -> dg.MarkdownMetadataValue:
    return picture(images.contact_sheet(pictured, thumb=THUMB), "examples")


def _caption(row: dict[Any, Any]) -> str:
    score = "" if pd.isna(row["score"]) else f" {row['score']:.2f}"
    answer = "?" if pd.isna(row["answer"]) else row["answer"]
    return f"{answer}{score}"


def _messages(task: Task, row: dict[Any, Any]) -> list[dict[str, Any]]:
    url = f"file://{row['image']}" if isinstance(row["image"], str) else None
    return to_messages(task.prompt, row["question"], url, row["answer"])


def _chat(task: Task, row: dict[Any, Any]) -> str:
    said = [_sheet([(row["image"], row["example_id"])]).value] if isinstance(row["image"], str) else []
    for message in _messages(task, row):
        content = message["content"]
        texts = [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
        said.append(f"**{message['role']}**: {' '.join(texts)}")
    return "\n\n".join(said)


def _line(values: Iterable[Any]) -> str:
    return f"| {' | '.join(_cell(value) for value in values)} |"


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
