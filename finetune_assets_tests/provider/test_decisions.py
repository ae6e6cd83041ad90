"""Questions asked as decisions, where a provider gives them; over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_assets.provider import decisions
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.batches import answer_in_batches
from finetune_assets.provider.completions import Reply, Settings
from finetune_assets_tests.provider.answering_provider import (
    AnsweringProvider,
    Response,
    answering_provider,
    completion,
    question,
)
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("training")

WORDS = Settings("tiny-text", max_tokens=4, top_logprobs=5, question="choice", options=("Yes", "No"))
LEVELS = Settings("tiny-text", max_tokens=4, question="score", options=("low", "mid", "high"))


def asked(settings: Settings, server: ServerProcess, text: str = "Is it fine?", **how: Any) -> Reply:
    return next(ask_all(server.client(), settings, [question(text)], **how))


def test_the_local_server_is_asked_for_decisions(server: ServerProcess) -> None:
    reply = asked(WORDS, server)
    made: Any = server.client().decisions.create(
        model="tiny-text", input="Is it fine?",
        questions=[{"type": "choice", "instructions": "Is it fine?", "choices": [{"value": "Yes"}, {"value": "No"}]}],
    )  # fmt: skip
    expected = {each.value: each.probability for each in made.answers[0].probabilities}
    assert reply.probabilities == pytest.approx(expected, abs=1e-9)
    assert reply.text == made.answers[0].choice
    assert reply.tokens == ()
    levels = asked(LEVELS, server)
    assert list(levels.probabilities or {}) == ["low", "mid", "high"]
    assert sum((levels.probabilities or {}).values()) == pytest.approx(1)


def test_completions_are_asked_for_where_a_task_says_so(server: ServerProcess) -> None:
    reply = asked(Settings("tiny-text", 4, 5, "choice", ("Yes", "No"), "completions"), server)
    assert reply.probabilities is None
    assert reply.tokens


def test_what_was_weighed_once_is_kept(server: ServerProcess, tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        first, again = (asked(WORDS, server, "Is it kept?", cache=cache) for _ in range(2))
    assert first == again
    assert Reply.from_json(first.to_json()) == first


def test_decisions_in_batches_are_those_asked_one_by_one(server: ServerProcess, tmp_path: Path) -> None:
    texts = [f"Is {n} fine?" for n in range(5)]
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        answer_in_batches(server.client(), [(WORDS, map(question, texts))], cache, lambda _: None)
        kept = list(ask_all(server.client(), WORDS, map(question, texts), cache=cache))
    alone = [asked(WORDS, server, text) for text in texts]
    assert [reply.latency_s for reply in kept] == [None] * 5
    assert [reply.probabilities for reply in kept] == [reply.probabilities for reply in alone]


def luna(body: dict[str, Any]) -> Response:
    """An answer as OpenAI gives it, on a grid of 0.01."""
    if "questions" not in body:
        return completion("Yes")
    shares = [{"value": "Yes", "probability": 0.67}, {"value": "No", "probability": 0.32}]
    answer = {"type": "choice", "name": None, "choice": "Yes", "confidence": 0.67, "probabilities": shares}
    if "nothing" in str(body["input"]):
        answer = {"type": "refusal", "name": None}
    return 200, {"answers": [answer], "model": body["model"], "usage": {"input_tokens": 9}}, {}


def test_openai_s_own_model_is_asked_in_openai_s_words_alone() -> None:
    settings = Settings("gpt-6-luna", 4, 5, "choice", ("Yes", "No"))
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
    messages = [
        {"role": "system", "content": "Look."},
        {"role": "user", "content": [{"type": "text", "text": "Well?"}, shown]},
    ]
    with answering_provider(AnsweringProvider(luna)) as provider:
        reply, refused = ask_all(provider.client(), settings, [messages, question("nothing")], concurrency=1)
    assert provider.asked[0] == {
        "model": "gpt-6-luna",
        "input": [
            {"role": "system", "content": "Look."},
            {"role": "user", "content": [
                {"type": "input_text", "text": "Well?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            ]},
        ],
        "questions": [
            {"type": "choice", "instructions": "Well?", "choices": [{"value": "Yes"}, {"value": "No"}]}
        ],
    }  # fmt: skip
    assert reply.probabilities == pytest.approx({"Yes": 0.67 / 0.99, "No": 0.32 / 0.99})
    assert (refused.text, refused.probabilities, refused.error) == (None, None, None)


def test_a_provider_that_does_not_speak_of_decisions_is_asked_for_completions() -> None:
    with answering_provider(AnsweringProvider(luna)) as provider:
        reply = next(ask_all(provider.client(), Settings("m", 4, 5, "choice", ("Yes", "No")), [question("Well?")]))
        told = Settings("m", 4, 5, "choice", ("Yes", "No"), "decisions")
        weighed = next(ask_all(provider.client(), told, [question("Well?")]))
    assert (reply.text, reply.probabilities) == ("Yes", None)
    assert weighed.probabilities is not None


@pytest.mark.parametrize("answer", [{}, {"answers": []}, {"answers": [{"type": "choice"}]}, "text", None])
def test_what_is_no_decision_is_an_error_of_its_question(answer: Any) -> None:
    assert (decisions.read_decision(answer).error or "").startswith("no decision")
