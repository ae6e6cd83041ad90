"""Conversations over HTTP with models of every family: what is said is in the prompt, or refused by name.

Long: a load of each of some ninety models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_assets.server.base_models import BaseModel
from finetune_assets_tests.server.families import IMAGES, TEXT, image_model, text_model
from finetune_assets_tests.server.families.reference import Reference
from finetune_assets_tests.server.networks import chat, computing_in, data_url, picture
from finetune_assets_tests.server.test_families import REFUSED, TOLERANCE
from finetune_assets_tests.server.test_families_over_http import configured
from finetune_assets_tests.server_process import ServerProcess, make_home

_LONG = os.environ.get("FINETUNE_ASSETS_LONG_TESTS") == "1"
_QUICK = {"Gemma 2", "SmolVLM"}
"""One whose template refuses a system message, and one that takes one, and images."""
LENGTH = 12
SYSTEM = {"role": "system", "content": "Answer with Zebra."}

pytestmark = pytest.mark.usefixtures("in_float32")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that computes in float32."""
    with computing_in("float32"), ServerProcess(make_home(tmp_path_factory.mktemp("exact"))) as running:
        yield running


class Asked:
    """A model that is asked over HTTP for texts without control tokens, and what transformers say of it."""

    def __init__(self, server: ServerProcess, base: BaseModel) -> None:
        self.reference, self.name = Reference(base), configured(server, base)
        self._client = server.client()
        self._ban = dict.fromkeys(map(str, self.reference.signs), -100)

    def ask(self, messages: list[dict[str, Any]], **how: Any) -> Any:
        usual = {"temperature": 0, "max_tokens": LENGTH, "logit_bias": self._ban, "logprobs": True, "top_logprobs": 5}
        return self._client.chat.completions.create(model=self.name, messages=messages, **usual | how)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def check(self, messages: list[dict[str, Any]], shown: tuple[str, ...] = ()) -> str:
        """The answer, whose tokens are as likely as transformers' `generate` says."""
        choice = self.ask(messages).choices[0]
        tokens = choice.logprobs.content
        prompt = self.reference.prompt(messages)
        assert [token.logprob for token in tokens] == pytest.approx(
            self.reference.greedy(prompt, shown, LENGTH), abs=TOLERANCE
        )
        top = [token.logprob for token in tokens[0].top_logprobs]
        assert top == pytest.approx(self.reference.likeliest(prompt, shown), abs=TOLERANCE)
        assert b"".join(bytes(token.bytes) for token in tokens).decode().strip() == choice.message.content.strip()
        return choice.message.content

    def refusal(self, messages: list[dict[str, Any]]) -> str:
        """Why the server does not take a conversation."""
        with pytest.raises(openai.BadRequestError) as refused:
            self.ask(messages)
        assert self.name in str(refused.value)
        return str(refused.value)


def check_system_message(model: Asked) -> None:
    messages = [SYSTEM, *chat("Is it?")]
    if model.reference.takes(messages, "Answer with Zebra.", "Is it?"):
        model.check(messages)
    else:
        assert "chat template" in model.refusal(messages)


def check_ways_to_answer(model: Asked) -> None:
    messages = chat("Really?")
    whole = model.check(messages)
    pieces = [chunk.choices[0].delta.content or "" for chunk in model.ask(messages, stream=True) if chunk.choices]
    assert "".join(pieces) == whole
    assert [choice.message.content for choice in model.ask(messages, n=2).choices] == [whole, whole]
    drawn: dict[str, Any] = {"n": 2, "temperature": 1.5, "seed": 3}
    first, second = (choice.message.content for choice in model.ask(messages, **drawn).choices)
    streamed = ["", ""]
    for chunk in model.ask(messages, **drawn, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == [first, second]
    stop = whole[len(whole) // 2 :][:2]
    cut = model.ask(messages, stop=[stop]).choices[0]
    assert (cut.message.content, cut.finish_reason) == (whole[: whole.index(stop)], "stop")


def images(*colours: str) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": data_url(picture(colour))}} for colour in colours]


def check_two_images(model: Asked) -> None:
    said = [{"type": "text", "text": "See"}, *images("red"), {"type": "text", "text": "and"}, *images("blue")]
    together = [{"role": "user", "content": said}]
    apart = [*chat("Is it?", "No", picture("red")), *chat("Is this?", None, picture("blue"))]
    found = []
    for messages, told in ((together, ("See", "and")), (apart, ("Is it?", "No", "Is this?"))):
        if model.reference.takes(messages, *told):
            found.append(model.check(messages, ("red", "blue")))
        else:
            model.refusal(messages)


@pytest.mark.parametrize("name", [name for name in TEXT if _LONG or name in _QUICK])
def test_a_text_model_is_told_everything_and_answers_in_every_way(
    exact: ServerProcess, tmp_path: Path, name: str
) -> None:
    model = Asked(exact, text_model(name, tmp_path))
    check_system_message(model)
    check_ways_to_answer(model)
    assert "takes no images" in model.refusal(chat("Is it?", None, picture("red")))


@pytest.mark.parametrize("name", [name for name in IMAGES if name not in REFUSED and (_LONG or name in _QUICK)])
def test_an_image_model_is_told_and_shown_everything_and_answers_in_every_way(
    exact: ServerProcess, tmp_path: Path, name: str
) -> None:
    model = Asked(exact, image_model(name, tmp_path))
    check_system_message(model)
    check_ways_to_answer(model)
    model.check(chat("Is it?", None, picture("red")), ("red",))
    check_two_images(model)
