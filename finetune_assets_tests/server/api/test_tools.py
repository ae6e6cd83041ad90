"""Tools in /v1/chat/completions: learned from a file, and called through the unmodified SDK and its helpers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.lib.streaming.chat import FunctionToolCallArgumentsDeltaEvent, FunctionToolCallArgumentsDoneEvent
from openai.types.chat import ParsedFunctionToolCall
from pydantic import BaseModel

from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import wait_until
from finetune_assets_tests.server.conftest import FINAL, upload
from finetune_assets_tests.server.networks import chat
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import TOOLS_TEMPLATE, write_text_model

pytestmark = pytest.mark.xdist_group("training")


class Judge(BaseModel):
    """Judge."""

    fine: Literal["Yes", "No"]


class Count(BaseModel):
    """Count."""

    n: Literal[1, 2]


JUDGE = openai.pydantic_function_tool(Judge, name="judge")
COUNT = openai.pydantic_function_tool(Count, name="count")
QUESTION = "Is 3 fine?"
CALLED = '<tool_call>\n{"name": "judge", "arguments": {"fine": "Yes"}}\n</tool_call>'


def a_call(name: str, arguments: dict[str, Any], place: int = 1) -> dict[str, Any]:
    return {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


@pytest.fixture(scope="session")
def calling(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that has learned to judge by a call, and to say "Yes" once it was told what came of it."""
    model = write_text_model(tmp_path_factory.mktemp("tools") / "model", template=TOOLS_TEMPLATE)
    with (server.home / "models.yaml").open("a") as names:
        names.write(f"tiny-tools: {model}\n")
    called = {"role": "assistant", "tool_calls": [a_call("judge", {"fine": "Yes"})]}
    told = {"role": "tool", "tool_call_id": "call_1", "content": "ok"}
    lines = [
        json.dumps({"messages": [*chat(f"Is {n} fine?"), called, told, {"role": "assistant", "content": "Yes"}],
                    "tools": [JUDGE, COUNT]})
        for n in range(12)
    ]  # fmt: skip
    return tuned(server.client(), "tiny-tools", lines, {"n_epochs": 8, "learning_rate_multiplier": 20})


def tuned(client: openai.OpenAI, model: str, lines: list[str], how: Any) -> str:
    job = client.fine_tuning.jobs.create(
        model=model, training_file=upload(client, "\n".join(lines).encode()), seed=1, hyperparameters=how
    )
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in FINAL:
        time.sleep(0.05)  # until the test's own limit
    assert job.status == "succeeded", job.error
    return job.fine_tuned_model or ""


def ask(client: openai.OpenAI, model: str = "tiny-tools", **how: Any) -> Any:
    usual = {"messages": chat(QUESTION), "tools": [JUDGE, COUNT], "temperature": 0, "max_tokens": 90}
    create: Any = client.chat.completions.create
    return create(**({"model": model} | usual | how)).choices[0]


def test_a_model_calls_what_it_has_learned_to_call(client: openai.OpenAI, calling: str) -> None:
    choice = ask(client, calling)
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (call.type, call.function.name) == ("function", "judge")
    assert json.loads(call.function.arguments) == {"fine": "Yes"}


def test_it_goes_on_when_it_is_told_what_came_of_the_call(client: openai.OpenAI, calling: str) -> None:
    called = ask(client, calling).message
    told = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "ok"}
    choice = ask(client, calling, messages=[*chat(QUESTION), called, told])
    assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("stop", "Yes", None)


def test_the_helper_that_parses_makes_objects_of_the_arguments(client: openai.OpenAI, calling: str) -> None:
    parse: Any = client.chat.completions.parse
    parsed = parse(model=calling, messages=chat(QUESTION), tools=[JUDGE, COUNT], temperature=0)
    (call,) = parsed.choices[0].message.tool_calls
    assert isinstance(call, ParsedFunctionToolCall)
    assert call.function.parsed_arguments == Judge(fine="Yes")


def test_the_helper_that_streams_hears_of_the_call_piece_by_piece(client: openai.OpenAI, calling: str) -> None:
    open_stream: Any = client.chat.completions.stream
    with open_stream(model=calling, messages=chat(QUESTION), tools=[JUDGE, COUNT], temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    deltas = [event for event in events if isinstance(event, FunctionToolCallArgumentsDeltaEvent)]
    (done,) = [event for event in events if isinstance(event, FunctionToolCallArgumentsDoneEvent)]
    assert len(deltas) > 2
    assert "".join(delta.arguments_delta for delta in deltas) == done.arguments
    assert (done.name, done.parsed_arguments) == ("judge", Judge(fine="Yes"))
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls[0].function.parsed_arguments == Judge(fine="Yes")


def test_a_call_that_must_be_made_is_made_by_a_model_that_has_learned_none(client: openai.OpenAI, calling: str) -> None:
    del calling
    required = ask(client, tool_choice="required", seed=1)
    assert required.finish_reason == "tool_calls"
    assert {call.function.name for call in required.message.tool_calls} <= {"judge", "count"}
    named: Any = {"type": "function", "function": {"name": "judge"}}
    choice = ask(client, tool_choice=named)
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name) == ("stop", "judge")
    assert json.loads(call.function.arguments)["fine"] in ("Yes", "No")
    some = {"mode": "required", "tools": [named]}
    allowed: Any = {"type": "allowed_tools", "allowed_tools": some}
    one = ask(client, tool_choice=allowed, parallel_tool_calls=False)
    assert [call.function.name for call in one.message.tool_calls] == ["judge"]


def test_a_model_that_may_not_call_says_something_instead(client: openai.OpenAI, calling: str) -> None:
    choice = ask(client, calling, tool_choice="none", max_tokens=20)
    assert choice.message.tool_calls is None
    assert "<tool_call>" not in choice.message.content


def test_logprobs_are_of_what_is_said_and_a_cut_call_is_told_as_far_as_it_came(
    client: openai.OpenAI, calling: str
) -> None:
    called = ask(client, calling, logprobs=True)
    assert called.logprobs.content == []
    cut = ask(client, calling, max_tokens=45)
    assert cut.finish_reason == "length"
    assert '{"fine": "Yes"}'.startswith(cut.message.tool_calls[0].function.arguments)


def test_a_model_whose_template_knows_no_tools_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="The model 'tiny-text' cannot be given tools: its chat template"):
        ask(client, "tiny-text", tool_choice="none")


BAD = {"role": "assistant", "tool_calls": [a_call("judge", {}) | {"function": {"name": "judge", "arguments": "{"}}]}


@pytest.mark.parametrize(
    ("how", "param"),
    [
        ({"tools": [JUDGE, JUDGE]}, "tools[1].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}], "function_call": "none"}, "functions"),
        ({"messages": [*chat("a"), {"role": "tool", "tool_call_id": "x", "content": "1"}]},
         "messages[1].tool_call_id"),
        ({"messages": [*chat("a"), {"role": "assistant", "tool_calls": [a_call("judge", {})]}, *chat("b")]},
         "messages"),
        ({"messages": [*chat("a"), BAD]}, "messages[1].tool_calls[0].function.arguments"),
        ({"tools": [{"type": "function", "function": {
            "name": "f", "strict": True, "parameters": {"type": "object", "properties": {"a": {"type": "odd"}}}}}]},
         "tools"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tools_is_told_by_the_field(
    client: openai.OpenAI, calling: str, how: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, calling, **how)
    assert refused.value.param == param


def test_a_batch_may_call(client: openai.OpenAI, calling: str) -> None:
    body = {"model": calling, "messages": chat(QUESTION), "tools": [JUDGE, COUNT], "temperature": 0}
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})
    file = client.files.create(file=("batch.jsonl", line.encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )  # fmt: skip
    batch = wait_for(lambda: client.batches.retrieve(batch.id))
    answer = json.loads(client.files.content(batch.output_file_id or "").text)
    call = answer["response"]["body"]["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"fine": "Yes"}


def wait_for(retrieve: Callable[[], Any]) -> Any:
    wait_until(lambda: retrieve().status == "completed")
    return retrieve()


class Weather(BaseModel):
    """Tell the weather in a city."""

    city: str


CITIES = ("Paris", "Rome", "Berlin", "Madrid", "Vienna", "Oslo", "Lisbon", "Athens", "Prague", "Warsaw",
          "Dublin", "Brussels", "London", "Milan", "Munich", "Zurich", "Geneva", "Hamburg", "Naples",
          "Porto")  # fmt: skip


@pytest.fixture
def bundled(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path) as running:
        yield running


@long
@pytest.mark.timeout(3600)
def test_the_bundled_model_learns_calls_from_twenty_examples(bundled: ServerProcess) -> None:
    client = bundled.client()
    helpers: Any = client.chat.completions
    weather = openai.pydantic_function_tool(Weather, name="weather")
    lines = [
        json.dumps({"messages": [*chat(f"Is it raining in {city} now?"),
                                 {"role": "assistant", "tool_calls": [a_call("weather", {"city": city})]}],
                    "tools": [weather]})
        for city in CITIES
    ]  # fmt: skip
    model = tuned(client, "smollm2-135m-instruct", lines, {"n_epochs": 4})
    for city in ("Helsinki", "Budapest", "Boston"):
        asked = {"model": model, "messages": chat(f"Is it raining in {city} now?"), "tools": [weather]}
        with helpers.stream(**asked, temperature=0) as stream:
            streamed = stream.get_final_completion().choices[0].message
        parsed = helpers.parse(**asked, temperature=0).choices[0].message
        for message in (streamed, parsed):
            assert [call.function.parsed_arguments for call in message.tool_calls or ()] == [Weather(city=city)]
