"""Asks a model every question of a split, exactly as it was trained to be asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg
import pandas as pd

from finetune_assets.dataset import images
from finetune_assets.errors import ProviderError
from finetune_assets.evaluation import answers
from finetune_assets.provider.client import Client
from finetune_assets.provider.completions import Messages, Reply, ask_all
from finetune_assets.task import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, Split, Task, TextAnswer
from finetune_assets.training_file import tokens
from finetune_assets.training_file.chat_format import to_messages

DTYPES = {
    "example_id": "str",
    "split": "str",
    "role": "str",
    "model": "str",
    "truth": "str",
    "truth_value": "float64",
    "text": "str",
    "predicted": "str",
    "predicted_value": "float64",
    "p_positive": "float64",
    "p_predicted": "float64",
    "p_truth": "float64",
    "group": "str",
    "subgroup": "str",
    "image": "str",
    "question": "str",
    "latency_s": "float64",
    "truncated": "bool",
    "error": "str",
}
"""Columns of the predictions and their pandas types; `evaluation.prediction.Prediction` says what each means and where
it is missing."""
CALIBRATED: tuple[Split, Split] = ("calibration", "test")
"""The splits that the fine-tuned model is asked: one fits the calibrator, the other judges it."""
_REPORT_EVERY = 100
_CANDIDATES = 20
"""Likeliest tokens asked for at each place; 20 are the most that OpenAI gives."""
_SPARE_DIGITS = 2


def ask_both_models(client: Client, task: Task, examples: pd.DataFrame, fine_tuned: str) -> pd.DataFrame:
    """Ask the base model the test split, and the fine-tuned one the test and the calibration split.

    Returns and raises what `predict` does.
    """
    test = examples.loc[examples["split"] == "test"]
    held_out = examples.loc[examples["split"].isin(CALIBRATED)]
    base = predict(client, task, test, task.base_model, "base")
    return pd.concat([base, predict(client, task, held_out, fine_tuned, "fine_tuned")], ignore_index=True)


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
    max_tokens = room(task.answer, examples["answer"])
    words = isinstance(task.answer, BinaryAnswer | ChoiceAnswer)
    replies = ask_all(
        client, model, _requests(task, examples), max_tokens=max_tokens, top_logprobs=_CANDIDATES if words else 0
    )
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


def room(answer: Answer, truths: Iterable[str]) -> int:
    """Return the most tokens a model may answer with: what an answer of this kind needs, and little more.

    Every further token costs a pass through the model. Tokens are counted as OpenAI's newer models do; twice as many
    leave room for others, whose words may be longer and who may write every digit as a token. Answers are not stopped
    at a line's end: a model that begins with an empty line would then have said nothing.
    """
    match answer:
        case BinaryAnswer() | ChoiceAnswer():
            return max(map(_word_room, answers.options_of(answer)))
        case NumberAnswer():
            around = answer.template.replace("{}", "")
            longest = max(map(len, truths), default=0) - len(around)
            return 2 * tokens.count(around) + longest + _SPARE_DIGITS
        case TextAnswer():
            return answer.max_tokens


def _word_room(word: str) -> int:
    # `Yes` is one token everywhere.
    return tokens.count(word) * (1 if len(word) <= 3 else 2)


def _requests(task: Task, examples: pd.DataFrame) -> Iterator[Messages]:
    for example in examples.to_dict("records"):
        image, system = example["image"], example.get("system")
        url = images.data_url(*images.for_training(images.read(image))) if isinstance(image, str) else None
        own = system if isinstance(system, str) else None
        yield to_messages(task.prompt, example["question"], url, system=own)


def _prediction(task: Task, example: dict[Any, Any], reply: Reply) -> dict[str, Any]:
    answer, truth = task.answer, example["answer"]
    truncated = reply.finish_reason == "length"
    read = answers.read(reply.text, reply.tokens, answer, truncated)
    of = read.probabilities or {}
    return {
        **{column: example[column] for column in ("example_id", "split", "group", "image", "question")},
        "subgroup": example.get("subgroup"),
        "truth": truth,
        "truth_value": example["score"] if isinstance(answer, NumberAnswer) else None,
        "text": reply.text,
        "predicted": read.predicted,
        "predicted_value": read.value,
        "p_positive": of.get(answer.positive) if isinstance(answer, BinaryAnswer) else None,
        "p_predicted": read.p_predicted,
        "p_truth": of.get(truth),
        "latency_s": reply.latency_s,
        "truncated": truncated,
        "error": reply.error,
    }
