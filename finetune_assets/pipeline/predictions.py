"""Asks a model every question of a split, exactly as it was trained to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from finetune_assets.dataset import images
from finetune_assets.errors import ProviderError
from finetune_assets.evaluation import answers
from finetune_assets.provider.client import Client
from finetune_assets.provider.completions import Messages, Reply, ask_all
from finetune_assets.task import BinaryAnswer, Split, Task
from finetune_assets.training_file import tokens
from finetune_assets.training_file.chat_format import to_messages

DTYPES = {
    "example_id": "str",
    "split": "str",
    "role": "str",
    "model": "str",
    "truth": "str",
    "text": "str",
    "predicted": "str",
    "p_positive": "float64",
    "group": "str",
    "image": "str",
    "question": "str",
    "latency_s": "float64",
    "error": "str",
}
"""Columns of the predictions and their pandas types. Missing are: `predicted` where the text is neither answer,
`p_positive` (0 to 1) where there are no log-probabilities, `error` and `image` where there are none."""
CALIBRATED: tuple[Split, Split] = ("calibration", "test")
"""The splits that the fine-tuned model is asked: one fits the calibrator, the other judges it."""
_REPORT_EVERY = 100


def ask_both_models(client: Client, task: Task, examples: pd.DataFrame, fine_tuned: str) -> pd.DataFrame:
    """Ask the base model the test split, and the fine-tuned one the test and the calibration split.

    Returns and raises what `predict` does.
    """
    test = examples.loc[examples["split"] == "test"]
    held_out = examples.loc[examples["split"].isin(CALIBRATED)]
    base = predict(client, task, test, task.base_model, "base")
    return pd.concat([base, predict(client, task, held_out, fine_tuned, "fine_tuned")], ignore_index=True)


def fine_tuned_scores(predictions: pd.DataFrame, split: Split, answer: BinaryAnswer) -> pd.DataFrame:
    """Return what calibration needs of one split: p (score of the positive answer), y (whether it is true), group.

    Predictions of the fine-tuned model that have no score are left out.
    """
    rows = predictions["p_positive"].notna() & (predictions["role"] == "fine_tuned") & (predictions["split"] == split)
    of = predictions.loc[rows]
    return pd.DataFrame({"p": of["p_positive"], "y": of["truth"] == answer.positive, "group": of["group"]})


def predict(client: Client, task: Task, examples: pd.DataFrame, model: str, role: str) -> pd.DataFrame:
    """Return one prediction for each example.

    Args:
        client: Speaks to the provider that serves the model.
        task: Gives the prompt and the answer's words.
        examples: Rows of `filtered_qa`.
        model: The model to ask.
        role: "base" or "fine_tuned", written into every row.

    Returns:
        One row for each example, in their order, with the columns `DTYPES`.

    Raises:
        ProviderError: the provider does not answer, or refused every example.
    """
    words = task.answer.positive, task.answer.negative
    # Room for the longer answer and no more: every further token costs a pass through the model.
    max_tokens = max(tokens.count(word) for word in words)
    replies = ask_all(client, model, _requests(task, examples), max_tokens=max_tokens)
    log = dg.get_dagster_logger()
    rows = []
    for number, (example, reply) in enumerate(zip(examples.to_dict("records"), replies, strict=True), start=1):
        rows.append(_prediction(task, example, reply) | {"role": role, "model": model})
        if number % _REPORT_EVERY == 0 or number == len(examples):
            log.info(f"{model} answered {number} of {len(examples)} questions")
    errors = [row["error"] for row in rows if row["error"]]
    if rows and len(errors) == len(rows):
        raise ProviderError(f"{model} refused all {len(rows)} questions, the first one with: {errors[0]}")
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def _requests(task: Task, examples: pd.DataFrame) -> Iterator[Messages]:
    for example in examples.to_dict("records"):
        image = example["image"]
        url = images.data_url(*images.for_training(images.read(image))) if isinstance(image, str) else None
        yield to_messages(task.prompt, example["question"], url)


def _prediction(task: Task, example: dict[Any, Any], reply: Reply) -> dict[str, Any]:
    return {
        **{column: example[column] for column in ("example_id", "split", "group", "image", "question")},
        "truth": example["answer"],
        "text": reply.text,
        "predicted": answers.parse(reply.text, task.answer),
        "p_positive": answers.positive_probability(reply.top_logprobs, task.answer),
        "latency_s": reply.latency_s,
        "error": reply.error,
    }
