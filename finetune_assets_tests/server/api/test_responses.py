"""/v1/responses through the unmodified SDK and its helpers, which validate every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from finetune_assets_tests.server.api.test_tools import QUESTION, calling
from finetune_assets_tests.server.networks import chat, data_url, hub_vision_base, picture
from finetune_assets_tests.server_process import ServerProcess

__all__ = ["calling"]
JUDGE: dict[str, Any] = {
    "type": "function", "name": "judge", "strict": True, "description": "Judge.",
    "parameters": {"type": "object", "properties": {"fine": {"enum": ["Yes", "No"]}}, "required": ["fine"],
                   "additionalProperties": False},
}  # fmt: skip
COUNT: dict[str, Any] = {
    "type": "function", "name": "count", "strict": True, "description": "Count.",
    "parameters": {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
                   "additionalProperties": False},
}  # fmt: skip


class Verdict(BaseModel):
    """What is to be said."""

    fine: Literal["Yes", "No"]


def respond(client: openai.OpenAI, **how: Any) -> Any:
    create: Any = client.responses.create
    return create(**({"model": "tiny-text", "input": "a?", "max_output_tokens": 4, "temperature": 0} | how))


def test_a_response_says_what_a_chat_completion_says(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a?"}]
    chosen: Any = {"model": "tiny-text", "temperature": 0, "max_tokens": 4, "logprobs": True, "top_logprobs": 3}
    completion = client.chat.completions.create(messages=asked, **chosen)
    response = respond(
        client, instructions="Be kind.", include=["message.output_text.logprobs"], top_logprobs=3, metadata={"a": "b"}
    )
    assert response.output_text == completion.choices[0].message.content
    assert (response.metadata, response.instructions) == ({"a": "b"}, "Be kind.")
    assert response.usage.output_tokens == completion.usage.completion_tokens
    told, expected = response.output[0].content[0].logprobs, completion.choices[0].logprobs.content
    assert [(t.token, t.logprob, len(t.top_logprobs)) for t in told] == [(t.token, t.logprob, 3) for t in expected]
    cut = completion.choices[0].finish_reason == "length"
    assert response.status == ("incomplete" if cut else "completed")
    assert (response.incomplete_details is not None) == cut


def test_a_conversation_goes_on_by_sending_the_output_back(client: openai.OpenAI) -> None:
    first = respond(client)
    items = [{"role": "user", "content": [{"type": "input_text", "text": "a?"}]}, *first.output]
    second = respond(client, input=[*items, {"role": "user", "content": "b?"}])
    said: Any = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": first.output_text},
                 {"role": "user", "content": "b?"}]  # fmt: skip
    completion = client.chat.completions.create(model="tiny-text", messages=said, temperature=0, max_tokens=4)
    assert second.output_text == completion.choices[0].message.content


def test_the_helper_that_parses_makes_an_object_of_what_is_said(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="tiny-text", input="a?", text_format=Verdict)
    assert isinstance(parsed.output_parsed, Verdict)


def test_functions_are_called_and_answered(client: openai.OpenAI, calling: str) -> None:
    asked = {"model": calling, "tools": [JUDGE, COUNT], "max_output_tokens": 90}
    called = respond(client, input=QUESTION, **asked)
    (call,) = called.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "judge", {"fine": "Yes"})
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "ok"}
    answered = respond(client, input=[{"role": "user", "content": QUESTION}, *called.output, told], **asked)
    assert answered.output_text == "Yes"
    named = respond(client, input="b?", tool_choice={"type": "function", "name": "count"}, **asked)
    assert [each.name for each in named.output] == ["count"]


def shown(colour: str) -> list[dict[str, Any]]:
    image = {"type": "input_image", "image_url": data_url(picture(colour)), "detail": "auto"}
    return [{"role": "user", "content": [{"type": "input_text", "text": "a?"}, image]}]


def test_an_image_is_refused_by_a_model_that_sees_none(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="takes no images"):
        respond(client, input=shown("red"))


def test_an_image_is_seen_as_in_a_chat_completion(server: ServerProcess, tmp_path: Path) -> None:
    base, client = hub_vision_base(tmp_path), server.client()
    with (server.home / "models.yaml").open("a") as names:
        names.write(f"seeing: {base.path}\n")
    told = {}
    for colour in ("red", "blue"):
        asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 1}
        response = respond(client, model="seeing", input=shown(colour), **asked)
        messages: Any = chat("a?", image=picture(colour))
        completion: Any = client.chat.completions.create(
            model="seeing", messages=messages, max_tokens=1, temperature=0, logprobs=True
        ).choices[0]  # fmt: skip
        assert response.output_text == completion.message.content
        told[colour] = response.output[0].content[0].logprobs[0].logprob
        assert told[colour] == pytest.approx(completion.logprobs.content[0].logprob, abs=1e-6)
    assert told["red"] != told["blue"]


@pytest.mark.parametrize(
    ("how", "param"),
    [
        ({"stream": True}, "stream"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [JUDGE, JUDGE]}, "tools"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "a"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": "ok"}]}, "input"),
        ({"input": [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "a"}]}]},
         "input[0]"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_by_name(client: openai.OpenAI, how: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        respond(client, **how)
    assert refused.value.param == param


def test_a_model_that_there_is_not_is_told_as_such(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        respond(client, model="gpt-99")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")
