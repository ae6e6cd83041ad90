"""Asks a model every question of a split, exactly as it was trained to be asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pandas as pd

from finetune_assets.dataset import images
from finetune_assets.dataset.answer_reading import options_of
from finetune_assets.dataset.shown import Shown, shown
from finetune_assets.errors import ProviderError
from finetune_assets.evaluation.answers import read
from finetune_assets.evaluation.prediction import Role
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.batches import answer_in_batches
from finetune_assets.provider.client import Client, find_provider, is_gone
from finetune_assets.provider.completions import Messages, Reply, Settings
from finetune_assets.task import Split, Task
from finetune_assets.task.answers import (
    Answer,
    BinaryAnswer,
    CallAnswer,
    ChoiceAnswer,
    NumberAnswer,
    ScoreAnswer,
    TextAnswer,
)
from finetune_assets.training_file.chat_format import Labelled, Solved, to_messages

logger = logging.getLogger(__name__)

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
    "pictures": "str",
    "question": "str",
    "latency_s": "float64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "truncated": "bool",
    "error": "str",
    "doubtful": "bool",
    "source_truth": "str",
    "source_value": "float64",
    "reviewed_in": "str",
    "probabilities": "str",
}
"""Columns of the predictions and their pandas types; `evaluation.prediction.Prediction` says what each means and where
it is missing."""
CALIBRATED: tuple[Split, Split] = ("calibration", "test")
"""The splits that the fine-tuned model is asked: one fits the calibrator, the other judges it."""
_CHUNK = 500
_CANDIDATES = 20
"""Likeliest tokens asked for at each place; 20 are the most that OpenAI gives."""
_SPARE_DIGITS = 2
_NOTHING: Mapping[str, Sequence[Mapping[Any, Any]]] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """A model, and how it was trained to be asked."""

    model: str
    task: Task
    """With the prompt and the answer's words of its training."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What each of its own words is called in the examples; empty where they are called the same."""
    shown: Mapping[str, Sequence[Mapping[Any, Any]]] = field(default_factory=dict)
    """Training examples that a question shows first, rows of `filtered_qa`, by the example's id."""


def ask_models(
    client: Client,
    models: Mapping[Role, Asked],
    examples: pd.DataFrame,
    cache: AnswerCache,
    say: Callable[[str], None] = logger.info,
) -> pd.DataFrame:
    """Ask each model the test split, and the fine-tuned one the calibration split as well.

    A champion that the provider no longer has is left out. Returns and raises what `predict` does.
    """
    test, held_out = (examples.loc[examples["split"].isin(splits)] for splits in (("test",), CALIBRATED))
    questions = {role: held_out if role == "fine_tuned" else test for role in models}
    if all(asked.task.benchmark.batch for asked in models.values()):
        requests = [
            (settings(asked.task, questions[role]["answer"], asked.model), requests_of(asked.task, questions[role]))
            for role, asked in models.items()
        ]
        answer_in_batches(client, requests, cache, say)
    tables = []
    for role, asked in models.items():
        try:
            tables.append(predict(client, asked, questions[role], role, cache, say))
        except ProviderError as error:
            if role not in ("champion", "best") or not is_gone(error):
                raise
            say(f"nothing is compared with the {role} {asked.model}: {error}")
    return pd.concat(tables, ignore_index=True)


def predict(
    client: Client,
    asked: Asked,
    examples: pd.DataFrame,
    role: str,
    cache: AnswerCache,
    say: Callable[[str], None] = logger.info,
) -> pd.DataFrame:
    """Return one prediction for each example.

    Args:
        client: Speaks to the provider that serves the model.
        asked: The model, and how it is asked.
        examples: Rows of `filtered_qa`.
        role: What it is in the benchmark, written into every row.
        cache: Where answers are kept; what is in it is not asked again.
        say: Is told how far it is.

    Returns:
        One row for each example, in their order, with the columns `DTYPES`.

    Raises:
        ProviderError: the provider does not answer, or refused every example.
    """
    task, model = asked.task, asked.model
    replies = ask_all(
        client,
        settings(task, examples["answer"], model),
        requests_of(task, examples, asked.shown),
        cache=cache,
        concurrency=task.benchmark.concurrency or find_provider(task.provider).concurrency,
        total=len(examples),
        say=say,
    )
    table = _table(
        _prediction(asked, example, reply) | {"role": role, "model": model}
        for example, reply in zip(_records(examples), replies, strict=True)
    )
    errors = table["error"].dropna()
    if len(table) and len(errors) == len(table):
        raise ProviderError(f"{model} refused all {len(table)} questions, the first one with: {errors.iloc[0]}")
    return table


def room(answer: Answer, truths: Iterable[str]) -> int:
    """Return the most tokens a model may answer with: what an answer of this kind needs, and little more.

    A fine-tuned model stops by itself; others go on, and every further token costs a pass through them. Answers are
    not stopped at a line's end: a model that begins with an empty line would then have said nothing.
    """
    match answer:
        case BinaryAnswer() | ChoiceAnswer() | ScoreAnswer():
            return max(map(_most_tokens, options_of(answer)))
        case NumberAnswer():
            around = answer.template.replace("{}", "")
            longest = max(map(len, truths), default=0) - len(around)
            return _most_tokens(around) + longest + _SPARE_DIGITS
        case TextAnswer() | CallAnswer():
            return answer.max_tokens


def _most_tokens(text: str) -> int:
    """As many as a text can be in any vocabulary: one of each byte, and the space that many put before all of it."""
    return len(text.encode()) + 1


def settings(task: Task, truths: Iterable[str], model: str) -> Settings:
    """Return how a task's questions are put to a model whose answers are to be like `truths`."""
    longest = room(task.answer, truths)
    if isinstance(task.answer, CallAnswer):
        return Settings(model, longest, 0, tools=json.dumps(task.answer.declared))
    if not isinstance(task.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
        return Settings(model, longest, 0)
    question = "score" if isinstance(task.answer, ScoreAnswer) else "choice"
    return Settings(model, longest, _CANDIDATES, question, options_of(task.answer), task.benchmark.ask)


def _table(rows: Iterator[dict[str, Any]]) -> pd.DataFrame:
    # Rows as columns take a tenth of the memory that they take as dictionaries.
    parts = [pd.DataFrame(columns=list(DTYPES)).astype(DTYPES)]
    while some := list(islice(rows, _CHUNK)):
        parts.append(pd.DataFrame(some, columns=list(DTYPES)).astype(DTYPES))
    return pd.concat(parts, ignore_index=True)


def _records(examples: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    for start in range(0, len(examples), _CHUNK):
        yield from examples.iloc[start : start + _CHUNK].to_dict("records")


def requests_of(
    task: Task, examples: pd.DataFrame, before: Mapping[str, Sequence[Mapping[Any, Any]]] = _NOTHING
) -> Iterator[Messages]:
    """Yield the conversation in which each example is asked; `before` are those that it shows first, by its id."""
    for example in _records(examples):
        system = example.get("system")
        own = system if isinstance(system, str) else None
        first = [
            Solved(one["question"], _images(task, one), one["answer"]) for one in before.get(example["example_id"], ())
        ]
        yield to_messages(task.prompt, example["question"], _images(task, example), system=own, solved=first)


def _images(task: Task, example: Mapping[Any, Any]) -> list[Labelled]:
    if not isinstance(example["image"], str):
        return []
    several = example.get("pictures")
    seen = shown({**example, "pictures": several if isinstance(several, str) else None})
    return [(_image_url(task, image), image.label) for image in seen]


def _image_url(task: Task, image: Shown) -> str:
    data = images.read(image.image)
    # To decode what was found fit already takes as long as all the rest of a question.
    if image.fit is True:
        return images.data_url(data, images.MIME_TYPES[image.format])
    return images.data_url(*images.for_training(data, task.prompt.detail))


def _prediction(asked: Asked, example: dict[Any, Any], reply: Reply) -> dict[str, Any]:
    answer, truth = asked.task.answer, example["answer"]
    truncated = reply.finish_reason == "length"
    reading = read(reply.text, reply.tokens, answer, truncated, reply.probabilities)
    of, words = reading.probabilities or {}, asked.words
    said = {words.get(word, word): p for word, p in of.items()}
    return {
        **{column: example[column] for column in ("example_id", "split", "group", "image", "question")},
        "pictures": example.get("pictures"),
        "subgroup": example.get("subgroup"),
        "truth": truth,
        "truth_value": example["score"] if isinstance(answer, NumberAnswer) else None,
        "text": reply.text,
        "predicted": words.get(str(reading.predicted), reading.predicted),
        "predicted_value": reading.value,
        "p_positive": of.get(answer.positive) if isinstance(answer, BinaryAnswer) else None,
        "p_predicted": reading.p_predicted,
        "p_truth": said.get(truth),
        "latency_s": reply.latency_s,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "truncated": truncated,
        "error": reply.error,
        "doubtful": isinstance(example.get("doubt"), str),
        "source_truth": source if isinstance(source := example.get("source_answer"), str) else truth,
        "source_value": example.get("source_score") if isinstance(answer, NumberAnswer) else None,
        "reviewed_in": example.get("reviewed_in"),
        "probabilities": json.dumps(of) if of and isinstance(answer, ChoiceAnswer | ScoreAnswer) else None,
    }
