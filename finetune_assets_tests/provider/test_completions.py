"""Asking many questions at once."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator

import httpx2
import openai
import pytest

from finetune_assets.errors import ProviderError
from finetune_assets.provider.completions import Messages, Token, ask_all


def question(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def answering(answer: Callable[[str], httpx2.Response]) -> openai.OpenAI:
    """A client whose provider answers each question by a function of its text."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        return answer(json.loads(request.content)["messages"][-1]["content"])

    http = openai.DefaultHttpxClient(transport=httpx2.MockTransport(respond))
    return openai.OpenAI(base_url="http://there/v1", api_key="k", http_client=http, max_retries=0)


def completion(text: str, top: list[tuple[str, float]] | None = None) -> httpx2.Response:
    candidates = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in top or []]
    content = [{"token": text, "logprob": 0.0, "bytes": None, "top_logprobs": candidates}]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": {"content": content, "refusal": None} if top else None,
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return httpx2.Response(200, json=whole)


def refusal(status: int) -> httpx2.Response:
    error = {"message": "refused", "type": "x", "param": None, "code": None}
    return httpx2.Response(status, json={"error": error})


def test_answers_come_in_the_order_of_the_questions() -> None:
    def slow_echo(text: str) -> httpx2.Response:
        time.sleep(random.random() / 50)
        return completion(text)

    questions = [str(number) for number in range(60)]
    replies = ask_all(answering(slow_echo), "m", map(question, questions), max_tokens=2)
    assert [reply.text for reply in replies] == questions


def test_questions_are_drawn_only_as_far_ahead_as_they_are_needed() -> None:
    drawn = 0

    def endless() -> Iterator[Messages]:
        nonlocal drawn
        while True:
            drawn += 1
            yield question("?")

    replies = ask_all(answering(completion), "m", endless(), max_tokens=2, concurrency=3)
    for _ in range(10):
        next(replies)
    assert drawn <= 10 + 2 * 3


def test_a_caller_who_leaves_early_stops_the_asking() -> None:
    asked = []

    def slow(text: str) -> httpx2.Response:
        asked.append(text)
        time.sleep(0.02)
        return completion(text)

    replies = ask_all(answering(slow), "m", (question(str(n)) for n in range(100)), max_tokens=2, concurrency=2)
    next(replies)
    replies.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(asked) <= 2 * 2


def test_candidates_of_each_token_are_returned_with_the_likelier_of_two_that_read_the_same() -> None:
    client = answering(lambda _: completion("Yes", [("Yes", -0.1), ("No", -2.5), ("Yes", -9.0)]))
    [reply] = ask_all(client, "m", [question("?")], max_tokens=2)
    assert reply.tokens == (Token("Yes", 0.0, {"Yes": -0.1, "No": -2.5}),)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.error) == (7, 1, None)
    assert reply.finish_reason == "stop"


def test_a_provider_without_log_probabilities_gives_none() -> None:
    [reply] = ask_all(answering(completion), "m", [question("?")], max_tokens=2)
    assert reply.tokens == ()


def test_a_question_that_is_refused_does_not_stop_the_others() -> None:
    client = answering(lambda text: refusal(400) if text == "bad" else completion(text))
    replies = list(ask_all(client, "m", map(question, ["a", "bad", "b"]), max_tokens=2))
    assert [reply.text for reply in replies] == ["a", None, "b"]
    assert [reply.error for reply in replies] == [None, "refused", None]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_trouble_that_concerns_all_questions_is_raised(status: int) -> None:
    with pytest.raises(ProviderError):
        list(ask_all(answering(lambda _: refusal(status)), "m", map(question, "abc"), max_tokens=2))
