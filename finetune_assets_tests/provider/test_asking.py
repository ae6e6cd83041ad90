"""Asking many questions at once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_assets.errors import ProviderError
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.completions import Messages, Reply, Settings, Token
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.provider.answering_provider import (
    AnsweringProvider,
    Response,
    completion,
    echo,
    question,
    refusal,
    text_of,
)
from finetune_assets_tests.server_process import ServerProcess

M = Settings("m", max_tokens=2)


def ask(client: openai.OpenAI, questions: Any, **options: Any) -> list[Reply]:
    return list(ask_all(client, M, map(question, questions), **options))


def test_answers_come_in_the_order_of_the_questions(answering: AnsweringProvider) -> None:
    def slow_echo(asked: dict[str, Any]) -> Response:
        time.sleep(random.random() / 50)
        return echo(asked)

    answering.answer = slow_echo
    questions = [str(number) for number in range(60)]
    assert [reply.text for reply in ask(answering.client(), questions)] == questions


def test_no_more_are_under_way_than_are_allowed(answering: AnsweringProvider) -> None:
    eight = threading.Barrier(8)

    def together(asked: dict[str, Any]) -> Response:
        eight.wait(PATIENCE_S)
        return echo(asked)

    answering.answer = together
    ask(answering.client(), map(str, range(40)), concurrency=8)
    assert answering.most_at_once == 8


def test_questions_are_drawn_only_when_they_can_be_sent(answering: AnsweringProvider) -> None:
    answering.latency_s = 0.01
    ahead = []

    def drawn() -> Iterator[Messages]:
        for number in range(60):
            ahead.append(number - answering.n_answered)
            yield question(str(number))

    list(ask_all(answering.client(), M, drawn(), concurrency=3))
    assert max(ahead) <= 3


def test_one_slow_answer_does_not_hold_up_the_others(answering: AnsweringProvider) -> None:
    others_done = threading.Event()

    def answer(asked: dict[str, Any]) -> Response:
        if text_of(asked) == "0":
            assert others_done.wait(PATIENCE_S)
        elif answering.n_answered >= 98:
            others_done.set()
        return echo(asked)

    answering.answer = answer
    questions = [str(number) for number in range(100)]
    assert [reply.text for reply in ask(answering.client(), questions, concurrency=4)] == questions


def test_a_caller_who_leaves_early_stops_the_asking(answering: AnsweringProvider) -> None:
    replies = ask_all(answering.client(), M, (question(str(n)) for n in count()), concurrency=2)
    next(replies)
    replies.close()  # pyright: ignore[reportAttributeAccessIssue]
    asked = len(answering.asked)
    ask(answering.client(), ["after"])
    assert len(answering.asked) <= asked + 2 + 1  # two may have been on their way


def test_candidates_of_each_token_are_returned_with_the_likelier_of_two_that_read_the_same(
    answering: AnsweringProvider,
) -> None:
    answering.answer = lambda _: completion("Yes", [("Yes", -0.1), ("No", -2.5), ("Yes", -9.0)])
    [reply] = ask(answering.client(), ["?"])
    assert reply.tokens == (Token("Yes", 0.0, {"Yes": -0.1, "No": -2.5}),)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.error) == (7, 1, None)
    assert reply.finish_reason == "stop"


def test_a_provider_without_log_probabilities_gives_none(answering: AnsweringProvider) -> None:
    [reply] = ask(answering.client(), ["?"])
    assert reply.tokens == ()


def test_our_own_server_is_asked_in_the_same_way(server: ServerProcess) -> None:
    settings = Settings("tiny-text", max_tokens=3, top_logprobs=5)
    replies = list(ask_all(server.client(), settings, map(question, "abc")))
    assert [reply.error for reply in replies] == [None] * 3
    assert all(1 <= len(token.candidates) <= 5 for reply in replies for token in reply.tokens)
    assert all(reply.prompt_tokens > 0 and reply.completion_tokens > 0 for reply in replies)


def test_a_question_that_is_refused_does_not_stop_the_others(answering: AnsweringProvider) -> None:
    answering.answer = lambda asked: refusal(400) if text_of(asked) == "bad" else echo(asked)
    replies = ask(answering.client(), ["a", "bad", "b"])
    assert [reply.text for reply in replies] == ["a", None, "b"]
    assert [reply.error for reply in replies] == [None, "refused", None]


def test_an_answer_that_is_no_completion_is_an_error_of_its_question(answering: AnsweringProvider) -> None:
    answering.answer = lambda _: (200, {"detail": "come back later"}, {})
    [reply] = ask(answering.client(), ["?"])
    assert reply.error == 'no chat completion: {"detail": "come back later"}'


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_trouble_that_concerns_all_questions_is_raised(answering: AnsweringProvider, status: int) -> None:
    answering.answer = lambda _: refusal(status)
    with pytest.raises(ProviderError):
        ask(answering.client(), "abc")


def test_silence_is_raised_with_advice() -> None:
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0)
    with pytest.raises(ProviderError, match=r"127\.0\.0\.1:9/v1/ does not answer"):
        ask(client, "abc")


def test_what_may_pass_is_asked_again(answering: AnsweringProvider) -> None:
    tries: Counter[str] = Counter()

    def falter(asked: dict[str, Any]) -> Response:
        tries[text := text_of(asked)] += 1
        if tries[text] == 1 and text == "dropped":
            raise ConnectionResetError
        return refusal(500, **{"Retry-After": "0"}) if tries[text] == 1 else echo(asked)

    answering.answer = falter
    questions = ["dropped", "a", "b"]
    assert [reply.text for reply in ask(answering.client(max_retries=2), questions)] == questions
    assert set(tries.values()) == {2}


def test_money_that_is_used_up_is_said_at_once(answering: AnsweringProvider) -> None:
    answering.answer = lambda _: refusal(429, "You exceeded your current quota", code="insufficient_quota")
    with pytest.raises(ProviderError, match="exceeded your current quota"):
        ask(answering.client(max_retries=8), "abc", concurrency=1)
    assert len(answering.asked) == 1


def test_a_rate_limit_slows_all_questions_for_as_long_as_the_provider_asks(answering: AnsweringProvider) -> None:
    opens_at: list[float] = []

    def full(asked: dict[str, Any]) -> Response:
        with answering.lock:
            if not opens_at:
                opens_at.append(time.monotonic() + 1)
        if time.monotonic() < opens_at[0]:
            return refusal(429, **{"Retry-After": "1"})
        return echo(asked)

    answering.answer = full
    questions = [str(number) for number in range(50)]
    assert [reply.text for reply in ask(answering.client(max_retries=2), questions, concurrency=10)] == questions
    # Those that were under way when the first one was refused are all that were sent in vain.
    assert len(answering.asked) <= 50 + 10


def test_a_storm_of_refusals_ends_in_every_answer(answering: AnsweringProvider) -> None:
    """At most three at once are served; twenty would like to be."""
    answering.latency_s = 0.01

    def crowded(asked: dict[str, Any]) -> Response:
        return refusal(429, **{"Retry-After": "0.05"}) if answering.at_once > 3 else echo(asked)

    answering.answer = crowded
    questions = [str(number) for number in range(150)]
    replies = ask(answering.client(max_retries=8), questions, concurrency=20)
    assert [reply.text for reply in replies] == questions
    assert len(answering.asked) < 2 * 150


def test_how_far_it_is_is_said_in_the_end(answering: AnsweringProvider, tmp_path: Path) -> None:
    said: list[str] = []
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        ask(answering.client(), "ab", cache=cache)
        ask(answering.client(), "abcd", cache=cache, total=4, say=said.append)
    [words] = said
    assert words.startswith("m answered 4 of 4 questions, 2 of them in an earlier run, ") and "a second" in words
