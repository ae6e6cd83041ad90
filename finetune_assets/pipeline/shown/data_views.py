"""How a person is shown the data stages: from counts and the first rows, whatever the size of the tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from finetune_assets.dataset.contact_sheets import contact_sheet
from finetune_assets.dataset.corrections import Outcome, Reviewed
from finetune_assets.dataset.filtering import Filtered
from finetune_assets.dataset.image_addresses import is_elsewhere
from finetune_assets.dataset.label_errors import LabelErrors
from finetune_assets.dataset.sampling import Sample
from finetune_assets.dataset.shown import shown
from finetune_assets.dataset.table import Table, records
from finetune_assets.evaluation import charts
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.pipeline.shown.views import N_CHATS, N_PICTURES, THUMB, harmless, page, picture, start, table
from finetune_assets.task import SPLITS, Task
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, ScoreAnswer, TextAnswer
from finetune_assets.training_file.chat_format import to_messages
from finetune_assets.training_file.tokens import example_tokens

N_TOKEN_COUNTS = 2_000
"""Examples whose tokens are counted for the histogram: enough for its shape, whatever the size of the file."""
N_LETTERS = 1_000
"""Of a message that is shown; the file has all of it."""
N_QUARANTINE = 20
N_SUSPECTS = 16
N_RANGES = 10
CHAT_THUMB = 160
"""Side of the image of a conversation in pixels."""
_NO_ANSWERS = dg.MetadataValue.md("There are no answers to draw.")
ALL = "examples"
"""The one column of `counts` where answers are numbers or texts."""


def answers(answer: Answer) -> list[str]:
    """Return the words that an answer may be; none for numbers and texts."""
    if isinstance(answer, BinaryAnswer):
        return [answer.positive, answer.negative]
    return list(answer.options) if isinstance(answer, ChoiceAnswer | ScoreAnswer) else []


def counts(examples: Table, answer: Answer) -> pd.DataFrame:
    """Count examples by split (rows) and answer (columns; one for all where answers are numbers or texts).

    Rows without a split are not counted.
    """
    words = answers(answer)
    found: Counter[tuple[str, str]] = Counter()
    for chunk in examples.chunks(["split", "answer"]):
        rows = chunk.loc[chunk["split"].notna()]
        said = rows["answer"] if words else [ALL] * len(rows)
        found.update(zip(rows["split"], said, strict=True))
    columns = words or [ALL]
    numbers = [[found[split, word] for word in columns] for split in SPLITS]
    return pd.DataFrame(numbers, index=pd.Index(SPLITS, name="split"), columns=pd.Index(columns))


def answer_chart(examples: Table, answer: Answer, counted: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """Show the answers: by split where they are words, as a histogram of numbers, or of the lengths of texts."""
    if isinstance(answer, TextAnswer):
        words = np.concatenate([_n_words(chunk["answer"].dropna().tolist()) for chunk in examples.chunks(["answer"])])
        return (
            picture(charts.histogram(words, "Length of the answers", "words"), "answers") if len(words) else _NO_ANSWERS
        )
    if not isinstance(answer, NumberAnswer):  # of calls how many there are
        return picture(charts.split_by_label(counted), "examples by split and answer")
    values = np.concatenate([chunk["score"].dropna().to_numpy() for chunk in examples.chunks(["score"])])
    if not len(values):
        return _NO_ANSWERS
    if (values > 0).all() and values.max() > 100 * np.median(values):
        return picture(charts.histogram(np.log10(values), "Answers", "logarithm of the number, base 10"), "answers")
    return picture(charts.histogram(values, "Answers", "number"), "answers")


def first_examples(examples: Table, n_near_duplicates: int) -> dict[str, Any]:
    """Show the first examples that have a whole image, with the questions where they differ; or as texts."""
    first = examples.first(N_PICTURES, having="image_sha256")
    if first.empty:
        return {"first_examples": _texts(examples.first(N_PICTURES, having="split"))}
    sheet = _sheet([cell for row in records(first) for cell in _cells(row)])
    if len(set(first["question"])) > 1:
        sheet = dg.MetadataValue.md(f"{sheet.value}\n\n{_texts(first).value}")
    return {"near_duplicate_images": n_near_duplicates, "contact_sheet": sheet}


def ranges(examples: Table) -> dict[str, Any]:
    """Show in which ranges images of more than 8 bits are shown, the most frequent first; nothing without any."""
    columns = ["image_bits", "image_low", "image_high", "image_range"]
    found: Counter[tuple[Any, ...]] = Counter()
    for chunk in examples.chunks(columns):
        found.update(chunk.dropna().itertuples(index=False, name=None))
    if not found:
        return {}
    rows = [(*values, n) for values, n in found.most_common(N_RANGES)]
    return {"ranges": table(pd.DataFrame(rows, columns=["bits", "black", "white", "said by", "images"]), N_RANGES)}


def drawing(sampled: Sample) -> dict[str, Any]:
    """Show what else than the seed has decided about the splits."""
    name, size = sampled.largest_group
    n_references = sampled.n_references
    compared = f"{n_references}: shown beside at least half of the examples, so that they may stand in several splits"
    said = {"published_splits": sampled.published, "drawn_before": sampled.drawn_before}
    said |= {"reference_images": compared} if n_references else {}
    return {"largest_group": f"{name[:60]}: {size} examples", **{key: words for key, words in said.items() if words}}


def quarantine(filtered: Filtered) -> dict[str, Any]:
    """Show how many examples were set aside for each reason, the first of them, and labels that look wrong."""
    if not filtered.by_reason:
        shown: dict[str, Any] = {"quarantined": 0, "quarantine": dg.MetadataValue.md("Nothing was set aside.")}
        return shown | _suspects(filtered)
    reasons = pd.DataFrame(filtered.by_reason.most_common(), columns=["reason", "examples"])
    first = filtered.quarantine.first(N_QUARANTINE)
    rest = sum(filtered.by_reason.values()) - len(first)
    more = f"\n\nAnd {rest:,} more in the file." if rest else ""
    shown = {
        "quarantined": sum(filtered.by_reason.values()),
        "by_reason": table(reasons, rows=len(reasons)),
        "quarantine": dg.MetadataValue.md(f"{_set_aside(first)}{more}"),
        "quarantine_file": page(filtered.quarantine.path),
    }
    return shown | _suspects(filtered)


def reviewed(examples: Reviewed) -> dict[str, Any]:
    """Show what became of reviewers' decisions in each split; nothing where there are none."""
    found = examples.outcomes
    if not found:
        return {}
    rows = [{"split": split, **{str(one): found[split, one] for one in Outcome}} for split in (*SPLITS, "")]
    counted = pd.DataFrame(rows).replace({"split": {"": "not sampled"}}).set_index("split")
    counted = counted.loc[counted.any(axis="columns"), counted.any()]
    return {"decided_by_reviewers": found.total(), "reviewers_decisions": table(counted.reset_index())}


def relabelled(examples: Table, champion: Champion | None) -> str:
    """Say how many labels of each split reviewers changed since the champion was trained, or in all; "" if none."""
    since = (champion.trained_at or champion.since) if champion else ""
    found: Counter[str] = Counter()
    for chunk in examples.chunks(["split", "answer", "source_answer", "reviewed_at"]):
        rows = chunk.loc[(chunk["reviewed_at"].fillna("") > since) & (chunk["answer"] != chunk["source_answer"])]
        found.update(rows["split"])
    if not found:
        return ""
    counted = ", ".join(f"{found[split]} {split}" for split in SPLITS)
    when = f"Since the champion {champion.model} was trained, reviewers" if champion else "Reviewers"
    return f"{when} changed these labels: {counted}. All models are judged by the same, corrected test labels."


def chats(examples: Table, task: Task) -> dg.MarkdownMetadataValue:
    """Show the first training examples as the conversations they become."""
    training = records(examples.first(N_CHATS, split="train"))
    return dg.MetadataValue.md("\n\n---\n\n".join(_chat(task, row) for row in training))


def token_histogram(examples: Table, task: Task) -> dg.MarkdownMetadataValue:
    """Show how long the training examples are, images included as the base model's provider counts them."""
    training = records(examples.first(N_TOKEN_COUNTS, split="train"))
    lengths = [
        example_tokens(_messages(task, row), task.base_model, [(image.width, image.height) for image in shown(row)])
        for row in training
    ]
    if not lengths:
        return dg.MetadataValue.md("There is nothing to train on.")
    return picture(charts.histogram(lengths, "Length of the training examples", "tokens"))


def _set_aside(first: pd.DataFrame) -> str:
    """Show rows of the quarantine, above them their images."""
    pictured = [cell for row in records(first) if _is_near(row) for cell in _cells(row)]
    sheet = f"{_sheet(pictured[:N_PICTURES]).value}\n\n" if pictured else ""
    columns = ["example_id", "split", "reason", "detail", "question", "answer"]
    texts = first.filter(columns).map(start, na_action="ignore")
    texts.insert(1, "line", first["line"])
    return f"{sheet}{table(texts).value}"


def _is_near(row: dict[str, Any]) -> bool:
    """Whether a row has an image that nobody has to ask a network for."""
    return row["image"] is not None and (row["image_sha256"] is not None or not is_elsewhere(row["image"]))


def _suspects(filtered: Filtered) -> dict[str, Any]:
    return {} if filtered.label_errors is None else {"likely_label_errors": _label_errors(filtered.label_errors)}


def _label_errors(found: LabelErrors) -> dg.MarkdownMetadataValue:
    suspects = found.suspects.drop(columns=["row", "image"])
    if suspects.empty:
        return dg.MetadataValue.md(f"None found; {found.note}." if found.auc else f"{found.note.capitalize()}.")
    first = records(found.suspects.head(N_SUSPECTS))
    pictured = [(row["image"], f"{row['answer']}, or {row['likely']}?") for row in first if row["image"] is not None]
    sheet = f"{_sheet(pictured).value}\n\n" if pictured else ""
    return dg.MetadataValue.md(f"{sheet}{table(suspects, N_SUSPECTS).value}\n\n{found.note}.")


def _sheet(pictured: list[tuple[str, str]]) -> dg.MarkdownMetadataValue:
    return picture(contact_sheet(pictured, thumb=THUMB), "examples")


def _n_words(texts: list[str]) -> np.ndarray:
    return np.fromiter((len(text.split()) for text in texts), np.int32, len(texts))


def _texts(examples: pd.DataFrame) -> dg.MarkdownMetadataValue:
    return table(examples.filter(["split", "question", "answer"]).map(start))


def _cells(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Path and caption of each image of an example: the answer under the one in question, the label of the others."""
    if not row.get("pictures"):
        return [(row["image"], _caption(row))]
    return [
        (image.image, _caption(row) if image.image == row["image"] else image.label or "beside it")
        for image in shown(row)
    ]


def _caption(row: dict[str, Any]) -> str:
    """Return the answer, with the score where the answer alone does not say it."""
    answer, score = row["answer"] or "?", "" if row["score"] in (None, 0, 1) else f"{row['score']:.2f}"
    return answer if score in answer else f"{answer} {score}"


def _messages(task: Task, row: dict[str, Any]) -> list[dict[str, Any]]:
    urls = [(f"file://{image.image}", image.label) for image in shown(row)]
    return to_messages(task.prompt, row["question"], urls, row["answer"], system=row["system"])


def _chat(task: Task, row: dict[str, Any]) -> str:
    pictured = [(image.image, image.label or "") for image in shown(row)]
    said = [picture(contact_sheet(pictured, thumb=CHAT_THUMB)).value or ""] if pictured else []
    for message in _messages(task, row):
        content = message["content"]
        texts = [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
        said.append(f"**{message['role']}**: {harmless(start(' '.join(texts), N_LETTERS) or '')}")
    return "\n\n".join(said)
