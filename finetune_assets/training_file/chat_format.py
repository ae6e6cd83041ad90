"""The only prompt builder: training, benchmark and prediction ask in exactly the same words."""

from __future__ import annotations

from typing import Any

from finetune_assets.task import Prompt


def to_messages(
    prompt: Prompt, question: str, image_url: str | None = None, answer: str | None = None
) -> list[dict[str, Any]]:
    """Wrap one question, with its image and answer where given, in the chat format.

    Args:
        prompt: The task's system and user text; `{question}` in the user text is replaced literally, so that
            braces in a question or elsewhere in the prompt stay as they are.
        question: What is asked about the example.
        image_url: An https or data URL, at detail "low" (85 tokens in training). It comes after the text, so that
            examples with one question share a prefix, which providers cache and our server computes once per batch.
        answer: The label in the task's words, for training; None where the model is to answer.

    Returns:
        Messages as OpenAI's chat and fine-tuning endpoints take them: system (if the prompt has one), user,
        assistant (if there is an answer). Without an image the user's content is a plain string.
    """
    text = prompt.user.replace("{question}", question)
    content: str | list[dict[str, Any]] = text
    if image_url is not None:
        image = {"type": "image_url", "image_url": {"url": image_url, "detail": "low"}}
        content = [{"type": "text", "text": text}, image]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if prompt.system:
        messages.insert(0, {"role": "system", "content": prompt.system})
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return messages
