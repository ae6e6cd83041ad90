"""Providers that refuse parameters, over real HTTP: every question is answered, and the refusal met once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.completions import Settings
from finetune_assets.provider.manners import Manner, refused_parameter
from finetune_assets_tests.provider.answering_provider import (
    AnsweringProvider,
    Response,
    answering_provider,
    completion,
    question,
    refusal,
)

QUESTIONS = [question(f"q{n}") for n in range(12)]
NAMES = itertools.count()
REASONING = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
)


def refusing(*rules: tuple[str, str | None, str]) -> Any:
    """Answer only requests that have none of the parameters; each rule is a parameter, the `param` told, and words."""

    def answer(asked: dict[str, Any]) -> Response:
        for parameter, param, words in rules:
            name, _, most = parameter.partition(">")
            if name in asked and (not most or asked[name] > int(most)):
                status, body, headers = refusal(400, words, "unsupported_parameter")
                body["error"]["param"] = param
                return status, body, headers
        return completion("Yes", [("Yes", -0.1), ("No", -2.0)] if asked.get("logprobs") else None)

    return answer


CASES: dict[str, tuple[Any, set[str]]] = {
    "max_tokens": (
        refusing(("max_tokens", "max_tokens", "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead.")),
        {"max_completion_tokens", "temperature", "logprobs", "top_logprobs"},
    ),
    "max_tokens without a param": (
        refusing(("max_tokens", None, "max_tokens is not supported, use max_completion_tokens")),
        {"max_completion_tokens", "temperature", "logprobs", "top_logprobs"},
    ),
    "both names of the longest answer": (
        refusing(("max_tokens", "max_tokens", "no"), ("max_completion_tokens", "max_completion_tokens", "no")),
        {"temperature", "logprobs", "top_logprobs"},
    ),
    "a temperature": (
        refusing(("temperature", "temperature", REASONING)),
        {"max_tokens", "logprobs", "top_logprobs"},
    ),
    "more than 5 candidates": (
        refusing(("top_logprobs>5", None, "top_logprobs must be less than or equal to 5")),
        {"max_tokens", "temperature", "logprobs", "top_logprobs"},
    ),
    "candidates": (
        refusing(("top_logprobs", None, "Extra inputs are not permitted: top_logprobs")),
        {"max_tokens", "temperature", "logprobs"},
    ),
    "log-probabilities": (
        refusing(("logprobs", "logprobs", "logprobs is not supported by this model")),
        {"max_tokens", "temperature"},
    ),
    "everything": (
        refusing(*((name, name, "no") for name in ("logprobs", "top_logprobs", "temperature", "max_tokens"))),
        {"max_completion_tokens"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_provider_refuses_is_left_out_noted_once_and_fails_no_question(case: str) -> None:
    answer, left = CASES[case]
    said: list[str] = []
    with answering_provider(AnsweringProvider(answer)) as provider:
        settings = Settings(f"model-{next(NAMES)}", max_tokens=2)
        for _ in range(2):
            replies = list(ask_all(provider.client(), settings, QUESTIONS, concurrency=1, say=said.append))
            assert [(reply.text, reply.error) for reply in replies] == [("Yes", None)] * len(QUESTIONS)
        assert set(provider.asked[-1]) - {"model", "messages"} == left
        refused = len(provider.asked) - 2 * len(QUESTIONS)
        assert refused <= 5  # of the first question alone
    assert len([line for line in said if "from now on" in line]) == 1


def test_many_questions_at_once_are_all_answered_by_a_provider_that_refuses() -> None:
    answer, _ = CASES["everything"]
    with answering_provider(AnsweringProvider(answer)) as provider:
        settings = Settings(f"model-{next(NAMES)}", max_tokens=2)
        replies = list(ask_all(provider.client(), settings, QUESTIONS * 4, concurrency=16))
    assert all(reply.text == "Yes" for reply in replies)


def test_models_that_reason_are_asked_not_to_and_in_their_own_words() -> None:
    with answering_provider(AnsweringProvider(refusing(("max_tokens", "max_tokens", "no")))) as provider:
        for model in ("gpt-6-luna", "gpt-5.6", "openai/gpt-6-sol"):
            assert next(ask_all(provider.client(), Settings(model, max_tokens=2), QUESTIONS[:1])).text == "Yes"
    assert len(provider.asked) == 3
    assert all(asked["reasoning_effort"] == "none" and asked["max_completion_tokens"] == 2 for asked in provider.asked)
    assert Manner.usual("gpt-4o-2024-08-06") == Manner.usual("ft:gpt-5:x") == Manner()


def test_a_refusal_for_the_question_itself_is_that_question_s_answer() -> None:
    def answer(asked: dict[str, Any]) -> Response:
        too_long = "This model's maximum context length is 5 tokens, and max_tokens is 2"
        return refusal(400, too_long, "context_length_exceeded") if "q3" in str(asked) else completion("Yes")

    with answering_provider(AnsweringProvider(answer)) as provider:
        settings = Settings(f"model-{next(NAMES)}", max_tokens=2)
        replies = list(ask_all(provider.client(), settings, QUESTIONS, concurrency=1))
    assert [n for n, reply in enumerate(replies) if reply.error is not None] == [3]
    assert {asked.get("max_tokens") for asked in provider.asked} == {2}


def test_a_parameter_is_found_by_its_whole_name() -> None:
    import httpx2
    import openai

    def error(words: str) -> openai.BadRequestError:
        response = httpx2.Response(400, request=httpx2.Request("POST", "http://x"))
        return openai.BadRequestError(words, response=response, body={"message": words})

    sent = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20, "messages": []}
    assert refused_parameter(error("top_logprobs: at most 5"), sent) == "top_logprobs"
    assert refused_parameter(error("logprobs are not available"), sent) == "logprobs"
    assert refused_parameter(error("use max_completion_tokens"), sent) is None
    assert refused_parameter(error("messages: too many"), sent) is None
