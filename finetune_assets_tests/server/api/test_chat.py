"""/v1/chat/completions over HTTP, through the unmodified SDK."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob

from finetune_assets_tests.server.networks import data_url, hub_vision_base, picture
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import write_text_model

pytestmark = [pytest.mark.xdist_group("training"), pytest.mark.precision]


def ask(client: openai.OpenAI, model: str = "tiny-text", **parameters: Any) -> ChatCompletion:
    messages = [{"role": "user", "content": "Is 3 fine?"}]
    return client.chat.completions.create(**({"model": model, "messages": messages, "max_tokens": 3} | parameters))


def ask_again(client: openai.OpenAI, model: str = "tiny-text", **parameters: Any) -> ChatCompletion:
    """The second answer to a question. From then on its beginning is in the cache, so that all sums have one order."""
    ask(client, model, **parameters)
    return ask(client, model, **parameters)


def show(url: str) -> list[dict[str, Any]]:
    """A conversation with an image."""
    return [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Is it red?"}, {"type": "image_url", "image_url": {"url": url}}],
        }
    ]


TOOL: Any = {"type": "function", "function": {"name": "f"}}


def schema_format(schema: dict[str, Any], name: str = "answer") -> Any:
    """A response format that asks for JSON of this schema."""
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def test_a_fine_tuned_model_gives_the_answer_it_was_taught(client: openai.OpenAI, finished: FineTuningJob) -> None:
    base = ask(client, "gpt-4o-mini", temperature=0)
    tuned = ask(client, finished.fine_tuned_model or "", temperature=0)
    assert base.choices[0].message.content != "Yes"
    assert tuned.choices[0].message.content == "Yes"
    assert tuned.choices[0].finish_reason == "stop"
    assert tuned.model == finished.fine_tuned_model


def test_a_checkpoint_answers_as_its_epoch_did(client: openai.OpenAI, finished: FineTuningJob) -> None:
    def p_yes(model: str) -> float:
        logprobs = ask_again(client, model, temperature=0, logprobs=True, top_logprobs=1).choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        return logprobs.content[0].logprob

    name = finished.fine_tuned_model or ""
    assert p_yes(f"{name}:ckpt-step-24") < p_yes(f"{name}:ckpt-step-48") == p_yes(name)


@pytest.fixture(scope="session")
def seeing(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a model that takes images, made known to the server while it runs."""
    model = hub_vision_base(tmp_path_factory.mktemp("vision"))
    with (server.home / "models.yaml").open("a") as names:
        names.write(f"{model.name}: {model.path}\n")
    return model.name


def test_a_picture_is_seen(client: openai.OpenAI, seeing: str) -> None:
    def surprise(color: str) -> float:
        messages = show(data_url(picture(color)))
        choice = ask_again(client, seeing, messages=messages, temperature=0, logprobs=True).choices[0]
        assert choice.logprobs is not None
        return (choice.logprobs.content or [])[0].logprob

    assert surprise("red") == surprise("red") != surprise("blue")


def test_log_probabilities_come_for_every_token_with_its_rivals(client: openai.OpenAI) -> None:
    choice = ask(client, temperature=0, logprobs=True, top_logprobs=20).choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content or []
    assert len(content) == 3
    for token in content:
        assert len(token.top_logprobs) == 20
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)
        assert sum(math.exp(rival.logprob) for rival in token.top_logprobs) <= 1 + 1e-6
    assert b"".join(bytes(token.bytes or []) for token in content).decode() == choice.message.content


def test_log_probabilities_are_null_unless_asked_for(client: openai.OpenAI) -> None:
    choice = ask(client).choices[0]
    assert choice.logprobs is None
    assert {"logprobs", "message"} <= choice.model_fields_set
    assert "refusal" in choice.message.model_fields_set


def test_usage_counts_all_choices(client: openai.OpenAI) -> None:
    answer = ask(client, n=3, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 9
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 9
    assert {choice.finish_reason for choice in answer.choices} == {"length"}


def test_a_seed_makes_draws_repeatable(client: openai.OpenAI) -> None:
    def draw(seed: int) -> list[str | None]:
        return [choice.message.content for choice in ask_again(client, n=4, seed=seed, max_tokens=8).choices]

    assert draw(5) == draw(5) != draw(6)
    assert len(set(draw(5))) > 1


def test_top_p_zero_leaves_the_likeliest_token(client: openai.OpenAI) -> None:
    greedy = ask_again(client, temperature=0, max_tokens=8).choices[0].message.content
    assert ask(client, top_p=0, max_tokens=8).choices[0].message.content == greedy


def test_an_answer_ends_before_a_stop_sequence(client: openai.OpenAI) -> None:
    text = ask_again(client, temperature=0, max_tokens=20).choices[0].message.content or ""
    stop = text[5:7]
    choice = ask(client, temperature=0, max_tokens=20, stop=["never there", stop]).choices[0]
    assert choice.message.content == text[: text.index(stop)]
    assert choice.finish_reason == "stop"


def test_concurrent_requests_get_their_own_answers(client: openai.OpenAI, finished: FineTuningJob) -> None:
    models = ["tiny-text", finished.fine_tuned_model or ""]
    with ThreadPoolExecutor(12) as pool:
        asked = models * 12
        answers = list(pool.map(lambda model: ask(client, model, temperature=0).choices[0].message.content, asked))
    assert [answer == "Yes" for answer in answers] == [False, True] * 12  # which only the fine-tuned model says


def test_an_earlier_answer_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    endless = {"2": -100}  # an answer that begins with its end says nothing
    earlier = ask(client, logit_bias=endless).choices[0].message
    hello: Any = {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}
    messages = [hello, {"role": "user", "content": "a", "name": "Ada"}, earlier, {"role": "user", "content": "b"}]
    assert ask(client, messages=messages, logit_bias=endless).choices[0].message.content


@pytest.mark.parametrize(
    "parameters",
    [
        {"stream": False, "tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "store": False},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "modalities": ["text"], "reasoning_effort": "none"},
        {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x"},
        {"max_tokens": None, "max_completion_tokens": 2, "n": None, "stop": None, "seed": None, "temperature": None},
        {"verbosity": "medium", "prompt_cache_key": "k", "prediction": {"type": "content", "content": "Yes"}},
        {"tool_choice": "none", "function_call": "auto"},
    ],
)
def test_parameters_that_ask_for_nothing_special_are_taken(client: openai.OpenAI, parameters: dict[str, Any]) -> None:
    assert ask(client, **parameters).object == "chat.completion"


@pytest.mark.parametrize(
    "parameters",
    [
        {"tools": [TOOL]},
        {"functions": [{"name": "f"}]},
        {"modalities": ["text", "audio"]},
        {"web_search_options": {}},
        {"verbosity": "high"},
    ],
)
def test_what_is_not_served_is_refused_by_name(client: openai.OpenAI, parameters: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **parameters)
    assert (refused.value.param, refused.value.code) == (next(iter(parameters)), "unsupported_parameter")


@pytest.mark.parametrize(
    ("parameters", "param", "code"),
    [
        ({"extra_body": {"best_of": 3}}, "best_of", "unknown_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": 5}, "max_tokens", "invalid_value"),
        ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"stop": list("abcde")}, "stop", "array_above_max_length"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": "x" * 10_485_761}]}, "messages[0].content",
         "string_above_max_length"),
        ({"messages": show("ftp://example.com/cat.png")}, "messages[0].content[1].image_url.url", "invalid_image_url"),
        ({"messages": show("data:image/png;base64," + "A" * (28 << 20))}, "messages[0].content[1].image_url.url",
         "image_too_large"),
        ({"messages": [{"role": "user", "content": [*show("https://a.b/c.png")[0]["content"]] * 501}]}, "messages",
         "too_many_images"),
        ({"logit_bias": {"word": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "decimal_above_max_value"),
        ({"logit_bias": {"999999": 1}}, "logit_bias", None),
        ({"presence_penalty": 2.1}, "presence_penalty", "decimal_above_max_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "decimal_below_min_value"),
        ({"stop": ""}, "stop", "empty_string"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "messages", None),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        ({"response_format": schema_format({}, name="a b")}, "response_format.json_schema.name", "invalid_value"),
        ({"response_format": schema_format({"type": "nothing"})}, "response_format", None),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text",
         "missing_required_parameter"),
        ({"messages": [{"role": "system", "content": show("x")[0]["content"]}]}, "messages[0].content[1].type",
         "invalid_value"),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, "messages", "context_length_exceeded"),
        ({"max_tokens": 10_000}, "messages", "context_length_exceeded"),
        ({"messages": show(data_url(picture("red")))}, "messages", "invalid_image"),
        ({"messages": show("https://example.com/cat.png")}, "messages", None),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_naming_the_parameter(
    client: openai.OpenAI, parameters: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **parameters)
    assert refused.value.param == param
    assert refused.value.code == code or code is None


def test_an_answer_keeps_to_a_json_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"fine": {"type": "boolean"}, "score": {"enum": [1, 2, 3]}},
        "required": ["fine", "score"],
        "additionalProperties": False,
    }
    answer = ask(client, response_format=schema_format(schema), max_tokens=40, seed=3).choices[0]
    assert answer.finish_reason == "stop"
    found = json.loads(answer.message.content or "")
    assert set(found) == {"fine", "score"}
    assert isinstance(found["fine"], bool)
    assert found["score"] in (1, 2, 3)


def test_a_bias_forces_and_bans_tokens(client: openai.OpenAI) -> None:
    forced = ask(client, logit_bias={"70": 100}, logprobs=True, temperature=0).choices[0]
    assert forced.logprobs is not None
    (token,) = {entry.token for entry in forced.logprobs.content or []}
    banned = ask(client, logit_bias={"70": -100}, max_tokens=30, seed=1).choices[0]
    assert token not in (banned.message.content or "")


def test_the_fingerprint_names_what_answers(client: openai.OpenAI, seeing: str) -> None:
    first, alias, other = ask(client), ask(client, "gpt-4o-mini"), ask(client, seeing)
    assert (first.system_fingerprint or "").startswith("fp_")
    assert first.system_fingerprint == alias.system_fingerprint != other.system_fingerprint


def test_a_repeated_prompt_is_read_from_the_cache_and_says_so(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "Is 3 fine? " * 20}]
    first, second = (ask(client, messages=question).usage for _ in range(2))
    assert first is not None
    assert second is not None
    assert second.prompt_tokens_details is not None
    assert first.prompt_tokens == second.prompt_tokens
    assert 0 < (second.prompt_tokens_details.cached_tokens or 0) < second.prompt_tokens
    assert second.completion_tokens_details is not None
    assert second.completion_tokens_details.reasoning_tokens == 0


def test_an_unknown_model_is_not_found_in_the_words_of_openai(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="The model `gpt-99` does not exist") as refused:
        ask(client, "gpt-99")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_a_model_that_cannot_be_served_as_it_was_meant_is_refused_by_name_and_reason(
    server: ServerProcess, client: openai.OpenAI, tmp_path: Path
) -> None:
    model = write_text_model(tmp_path / "base")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": None}))
    with (server.home / "models.yaml").open("a") as names:
        names.write(f"untuned: {model}\n")
    with pytest.raises(openai.BadRequestError, match="'untuned' has no chat template") as refused:
        ask(client, "untuned")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_usable")
