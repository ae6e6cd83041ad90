"""A question asked as a decision: the provider weighs the task's words, and nothing is written.

The task's messages are the input, as they are, and the last of them asks: its text is the decision's instructions, word
for word, and its options are the task's words in the task's order. So a server of this package puts nothing after the
input and asks the model exactly as it was trained to be asked; another provider reads the question twice.
"""

from __future__ import annotations

from typing import Any

import openai
import orjson

from finetune_assets.errors import ProviderError
from finetune_assets.provider.client import Client, is_lacking
from finetune_assets.provider.completions import Messages, Reply, Settings

PATH = "/decisions"
_OF_OPENAI = ("gpt-6-luna",)
"""Models of OpenAI's that decide; those of this package's server say so themselves."""


def body(settings: Settings, messages: Messages, *, raw: bool) -> bytes:
    """Return the body of a request, always in the same order.

    Args:
        settings: the model, and the words that may be answered.
        messages: in chat format, the last one the user's.
        raw: whether the provider has calibrators of its own, which are not to be applied.
    """
    if settings.question == "score":
        options: dict[str, Any] = {"levels": [{"label": word} for word in settings.options]}
    else:
        options = {"choices": [{"value": word} for word in settings.options]}
    question = {"type": settings.question, "instructions": _asking(messages[-1]["content"]), **options}
    asked = {"model": settings.model, "input": [_item(each) for each in messages], "questions": [question]}
    return orjson.dumps(asked | ({"calibrate": False} if raw else {}), option=orjson.OPT_SORT_KEYS)


def read_decision(decision: Any, latency_s: float | None = None) -> Reply:
    """Read the JSON of a decision about one question. A refusal is a reply without words."""
    try:
        (answer,), usage = decision["answers"], decision.get("usage") or {}
        used = usage.get("input_tokens") or 0
        if answer["type"] == "refusal":
            return Reply(None, latency_s=latency_s, prompt_tokens=used, finish_reason="content_filter")
        name = "label" if answer["type"] == "score" else "value"
        shares = {str(each[name]): float(each["probability"]) for each in answer["probabilities"]}
        best = max(shares, key=shares.__getitem__)
        total = sum(shares.values())  # some providers round
        probabilities = {word: share / total for word, share in shares.items()}
        return Reply(best, latency_s=latency_s, prompt_tokens=used, finish_reason="stop", probabilities=probabilities)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return Reply(None, latency_s=latency_s, error=f"no decision: {str(decision)[:200]}")


def decides(model: dict[str, Any], settings: Settings) -> bool:
    """Say whether a model is asked for decisions, from what its provider says of it."""
    if settings.question is None or settings.ask == "completions":
        return False
    return settings.ask == "decisions" or weighs(model) or model.get("id", settings.model) in _OF_OPENAI


def weighs(model: dict[str, Any]) -> bool:
    """Say whether a model is one of this package's server, which gives decisions and keeps calibrators."""
    return "/v1/decisions" in (model.get("endpoints") or ())


def register_calibration(client: Client, model: str, calibration: dict[str, Any]) -> bool:
    """Register a calibrator with a model at its provider; False where the provider keeps none.

    Raises:
        ProviderError: the provider refuses it.
        openai.APIError: the provider does not answer.
    """
    try:
        if not weighs(client.models.retrieve(model).to_dict()):
            return False
        client.put(f"/models/{model}/calibration", cast_to=object, body=calibration)
    except openai.APIStatusError as error:
        if is_lacking(error):
            return False
        raise ProviderError(f"the calibrator of {model} was not registered: {error.message}") from error
    return True


def _asking(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def _item(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return {"role": message["role"], "content": content}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "input_text", "text": part["text"]}
    image = part["image_url"]
    return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}
