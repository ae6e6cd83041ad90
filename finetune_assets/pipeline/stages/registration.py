"""A champion's calibrator at its provider, where that answers with calibrators: the numbers are those of `predict`."""

from __future__ import annotations

from typing import Any

from finetune_assets.dataset.answer_reading import options_of
from finetune_assets.errors import EvaluationError, ProviderError
from finetune_assets.evaluation import answering, calibration
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.evaluation.registered import as_registered
from finetune_assets.provider import decisions
from finetune_assets.provider.client import connect, explained
from finetune_assets.task import Task
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, ScoreAnswer
from finetune_assets.task.sources import ChatJsonlSource
from finetune_assets.training_file.chat_format import to_messages

_KEEP_NONE = ("openai", "azure")


def register(task: Task, champion: Champion) -> str:
    """Register the champion's calibrator with its model, and say in words what became of that.

    Who becomes champion does not depend on it: a provider that does not answer is said, and asked at the next run.
    """
    if not isinstance(task.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
        return "not for answers of this kind"
    if champion.provider in _KEEP_NONE:
        return "the provider keeps no calibrators"
    rule = answering.Rule.from_dict(champion.rule) if champion.rule else answering.Rule()
    try:
        fitted = calibration.load(champion.calibrator)
        body = as_registered(fitted, rule, options_of(task.answer), asked_in(task))
        if body is None:
            return "not for this calibrator, which says nothing of the words that were not answered"
        client = connect(champion.provider).with_options(max_retries=1)
        with explained(client):
            kept = decisions.register_calibration(client, champion.model, body)
    except (EvaluationError, ProviderError) as error:
        return f"not registered: {error}; materialise the champion again after that"
    return f"registered with {champion.model}" if kept else "the provider keeps no calibrators"


def asked_in(task: Task) -> list[dict[str, Any]]:
    """Return the conversation in which a task asks, without its images; `{question}` stands for any question.

    A source whose examples have a system message of their own may have any, or none.
    """
    own = isinstance(task.source, ChatJsonlSource) or getattr(task.source, "system", None) is not None
    messages = to_messages(task.prompt, "{question}")
    if own and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": None})
    return [
        {"role": each["role"], "text": None if own and each["role"] == "system" else each["content"]}
        for each in messages
    ]
