"""The only prompt builder: training, benchmark and prediction ask in exactly the same words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune_assets.dataset.answer_reading import parts_of
from finetune_assets.task import Prompt
from finetune_assets.task.answers import Answer, CallAnswer

Labelled = tuple[str, str | None]
"""The URL of an image, and what is said before it."""


@dataclass(frozen=True, slots=True)
class Solved:
    """A question with its images and its answer that one request shows before it asks (few-shot)."""

    question: str
    images: Sequence[Labelled]
    answer: str


def to_messages(
    prompt: Prompt,
    question: str,
    images: str | Sequence[Labelled] | None = None,
    answer: str | None = None,
    *,
    system: str | None = None,
    answered: Answer | None = None,
    solved: Sequence[Solved] = (),
) -> list[dict[str, Any]]:
    """Wrap one question, with its image and answer where given, in the chat format.

    Args:
        prompt: The task's system and user text, and the questions it answers first (few-shot); `{question}` in the
            user text is replaced literally, so that braces in a question or elsewhere in the prompt stay as they are.
        question: What is asked about the example.
        images: The https or data URL of its image, or several in their order, each with what is said before it; at the
            prompt's detail (low: 85 tokens in training). They come after the text, so that examples with one question
            share a prefix, which providers cache and our server computes once.
        answer: The label in the task's words, for training; None where the model is to answer.
        system: The example's own system message in place of the prompt's; "" for none at all.
        answered: The task's kind of answer; a call becomes one that the assistant makes.
        solved: What this request alone shows after the prompt's own shots.

    Returns:
        Messages as OpenAI's chat and fine-tuning endpoints take them: system (if there is one), user and assistant
        of each shot, user, assistant (if there is an answer). Without an image the user's content is a plain string.
    """
    messages: list[dict[str, Any]] = []
    if words := prompt.system if system is None else system:
        messages.append({"role": "system", "content": words})
    for shot in prompt.shots:
        messages.append({"role": "user", "content": _asked(prompt, shot.question)})
        messages.append({"role": "assistant", "content": shot.answer})
    for one in solved:
        messages.append({"role": "user", "content": _content(prompt, one.question, one.images)})
        messages.append({"role": "assistant", "content": one.answer})
    messages.append({"role": "user", "content": _content(prompt, question, images)})
    if answer is not None:
        called = isinstance(answered, CallAnswer)
        messages.append({"role": "assistant"} | ({"tool_calls": [_call(answer)]} if called else {"content": answer}))
    return messages


def _content(prompt: Prompt, question: str, images: str | Sequence[Labelled] | None) -> str | list[dict[str, Any]]:
    asked = _asked(prompt, question)
    if not images:
        return asked
    content: list[dict[str, Any]] = [{"type": "text", "text": asked}]
    for url, label in [(images, None)] if isinstance(images, str) else images:
        if label:
            content.append({"type": "text", "text": label})
        content.append({"type": "image_url", "image_url": {"url": url, "detail": prompt.detail}})
    return content


def _call(answer: str) -> dict[str, Any]:
    name, arguments = parts_of(answer)
    written = json.dumps(arguments, ensure_ascii=False)
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": written}}


def _asked(prompt: Prompt, question: str) -> str:
    return prompt.user.replace("{question}", question)
