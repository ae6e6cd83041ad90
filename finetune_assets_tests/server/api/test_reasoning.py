"""Reasoning in /v1/chat/completions: asked for by effort, told apart from what is said, whole and in streams."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from finetune_assets_tests.server.networks import chat
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import CHAT_TEMPLATE, write_text_model

pytestmark = pytest.mark.xdist_group("training")
ENDLESS = {"0": -100, "1": -100, "2": -100}


@pytest.fixture(scope="module", autouse=True)
def thinking(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two names of a model whose prompt begins a thought; of random weights, it never comes to its end."""
    begun = "{% if add_generation_prompt and enable_thinking %}<think>\n{% endif %}"
    model = write_text_model(tmp_path_factory.mktemp("thinking") / "model", template=CHAT_TEMPLATE + begun)
    with (server.home / "models.yaml").open("a") as names:
        names.write(f"thinker: {model}\nalways-thinks: {{model: {model}, reasoning: medium}}\n")


def ask(client: openai.OpenAI, model: str = "thinker", **how: Any) -> Any:
    create: Any = client.chat.completions.create
    usual = {"model": model, "messages": chat("Is 3 fine?"), "max_tokens": 6, "logit_bias": ENDLESS}
    return create(**(usual | how))


@pytest.mark.parametrize(
    ("model", "how", "thinks"),
    [
        ("thinker", {}, False),
        ("thinker", {"reasoning_effort": "none"}, False),
        ("thinker", {"reasoning_effort": "medium"}, True),
        ("always-thinks", {}, True),
        ("always-thinks", {"reasoning_effort": "none"}, False),
    ],
)
def test_a_model_thinks_where_the_request_or_models_yaml_says_so(
    client: openai.OpenAI, model: str, how: dict[str, Any], *, thinks: bool
) -> None:
    answer = ask(client, model, **how)
    message = answer.choices[0].message
    assert (message.content == "") == thinks
    assert bool(getattr(message, "reasoning_content", "")) == thinks
    assert answer.usage.completion_tokens == 6
    assert answer.usage.completion_tokens_details.reasoning_tokens == (6 if thinks else 0)


def test_thoughts_are_streamed_apart_from_what_is_said(client: openai.OpenAI) -> None:
    whole = ask(client, reasoning_effort="medium", temperature=0).choices[0].message
    deltas = [chunk.choices[0].delta for chunk in ask(client, reasoning_effort="medium", temperature=0, stream=True)]
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == whole.reasoning_content
    assert not any(delta.content for delta in deltas)


def test_an_effort_that_the_template_does_not_know_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="its chat template knows none, medium") as refused:
        ask(client, reasoning_effort="high")
    assert (refused.value.param, refused.value.code) == ("reasoning_effort", "unsupported_value")


def test_a_thought_may_be_sent_back_with_the_answer(client: openai.OpenAI) -> None:
    thought = ask(client, reasoning_effort="medium").choices[0].message
    assert ask(client, messages=[*chat("a"), thought, *chat("b")]).choices[0].message.content
