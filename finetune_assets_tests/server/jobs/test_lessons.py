"""What is taught can be used: calls are learned only where they would be read as the calls that they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_assets.server.jobs.lessons import Lessons, read
from finetune_assets.server.model.answer_form import answer_form
from finetune_assets.server.model.chat_template import ChatTemplate, PromptError
from finetune_assets.server.model.front import Front
from finetune_assets_tests.server.families.building import published
from finetune_assets_tests.server.networks import chat
from finetune_assets_tests.server.texts import texts
from finetune_assets_tests.tiny_models import CHAT_TEMPLATE, TOOLS_TEMPLATE, write_text_model

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "description": "It does.", "parameters": {"type": "object"}}}
    for name in ("judge", "add")
]
_BEGIN = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{% if m['role'] == 'user' %}"
    "[INST]{{ m['content'] }}[/INST]{% elif m['role'] == 'tool' %}[TOOL]{{ m['content'] }}[/TOOL]{% else %}"
)
MISTRAL_SMALL_3_2 = (
    _BEGIN + "{{ m['content'] }}{% for call in m['tool_calls'] or [] %}[TOOL_CALLS]{{ call['function']['name'] }}[ARGS]"
    "{{ call['function']['arguments'] | tojson }}{% endfor %}</s>{% endif %}{% endfor %}"
)
MISTRAL_NEMO = (
    _BEGIN + "{% if m['tool_calls'] %}[TOOL_CALLS][{% for call in m['tool_calls'] %}"
    "{% if call['id'] is not defined or call['id'] | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    "{{ call['function'] | tojson }}{% endfor %}]{% else %}{{ m['content'] }}{% endif %}</s>{% endif %}{% endfor %}"
)
DEEPSEEK_3_1 = (
    _BEGIN + "{{ m['content'] }}{% if m['tool_calls'] %}<tool_calls_begin>{% for call in m['tool_calls'] %}"
    "<tool_call_begin>{{ call['function']['name'] }}<tool_sep>{{ call['function']['arguments'] | tojson }}"
    "<tool_call_end>{% endfor %}<tool_calls_end>{% endif %}</s>{% endif %}{% endfor %}"
)
KIMI = (
    _BEGIN + "{{ m['content'] }}{% for call in m['tool_calls'] or [] %}<|tool_call_begin|>{{ call['id'] }}"
    "<|tool_call_argument_begin|>{{ call['function']['arguments'] | tojson }}<|tool_call_end|>{% endfor %}"
    "</s>{% endif %}{% endfor %}"
)
PYTHONIC = (
    _BEGIN + "{{ m['content'] }}{% if m['tool_calls'] %}[{% for call in m['tool_calls'] %}"
    "{{ call['function']['name'] }}({% for k, v in call['function']['arguments'].items() %}{{ k }}={{ v | tojson }}"
    "{% endfor %}){% endfor %}]{% endif %}</s>{% endif %}{% endfor %}"
)
KNOWN = {
    **{name: published(name) for name in ("qwen2_5", "qwen3", "qwen3_instruct_2507", "llama3_1", "llama3_2", "gptoss")},
    "Mistral Small 3.2": MISTRAL_SMALL_3_2, "DeepSeek-V3.1": DEEPSEEK_3_1, "Hermes": TOOLS_TEMPLATE,
    **{name: published(name) for name in ("qwen3_5_nothink", "qwen3_6", "qwen3_8", "glm4moe", "nemotron_3_nano")},
}  # fmt: skip
REFUSED = {
    "gemma3": (published("gemma3"), "knows no tools"),
    "gemma4": (published("gemma4"), "calls in another way than"),
    "lfm2_2_5": (published("lfm2_2_5"), "calls in another way than"),
    "without": (CHAT_TEMPLATE, "knows no tools"),
    "Mistral Nemo": (MISTRAL_NEMO, "takes no calls of tools as this server writes them .*length 9"),
    "Kimi K2": (KIMI, "leaves out calls of tools"),
    "Llama 4": (PYTHONIC, "calls in another way than"),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(write_text_model(tmp_path_factory.mktemp("models") / "model"))


def lessons(tokenizer: Any, template: str) -> Lessons:
    tokenizer.chat_template = template
    return Lessons(Front(tokenizer, None), "mine")


def calling(*calls: tuple[str, Any], content: str | None = None) -> list[dict[str, Any]]:
    made = [
        {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for place, (name, arguments) in enumerate(calls)
    ]
    told = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in made]
    called = {"role": "assistant", "tool_calls": made} | ({"content": content} if content else {})
    return [*chat("a?"), called, *told, {"role": "assistant", "content": "Yes"}]


AWKWARD = {"text": 'a "b" </tool_call> {', "n": [1, 2.5, None], "ü": {"x": True}}


@pytest.mark.parametrize("name", KNOWN)
def test_calls_are_taught_where_they_are_read_again(tokenizer: Any, name: str) -> None:
    lessons(tokenizer, KNOWN[name]).check(calling(("judge", AWKWARD)), TOOLS)


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_would_not_be_read_are_refused_by_model_and_reason(tokenizer: Any, name: str) -> None:
    template, why = REFUSED[name]
    for messages, tools in ((calling(("judge", {"a": 1})), TOOLS), (chat("a?", "Yes"), TOOLS)):
        with pytest.raises(PromptError, match=f"'mine' cannot be taught tools: its chat template .*{why}"):
            lessons(tokenizer, template).check(messages, tools)
    lessons(tokenizer, template).check(chat("a?", "Yes"), None)


@pytest.mark.parametrize("name", ["llama3_1", "gptoss"])
def test_what_a_template_writes_one_of_is_not_taught_several_times(tokenizer: Any, name: str) -> None:
    with pytest.raises(PromptError):
        lessons(tokenizer, KNOWN[name]).check(calling(("judge", {"a": 1}), ("add", {"b": 2})), TOOLS)


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_said_before_a_call_is_read_or_refused(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = KNOWN[name]
    form = answer_form(ChatTemplate.of(tokenizer, "mine"))
    try:
        lessons(tokenizer, KNOWN[name]).check(calling(("judge", {"a": 1}), content="Let me see."), TOOLS)
    except PromptError:
        assert form.calls is not None
        assert form.calls.after_content is None
    else:
        assert form.calls is not None
        assert form.calls.after_content is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts(max_size=9), lambda inner: st.lists(inner, max_size=3)
)


@given(
    name=st.sampled_from(["qwen2_5", "Mistral Small 3.2", "DeepSeek-V3.1", "gptoss"]),
    arguments=st.dictionaries(texts(min_size=1, max_size=9), JSON, max_size=3),
)
def test_whatever_is_called_is_read_as_it_was_written(tokenizer: Any, name: str, arguments: dict[str, Any]) -> None:
    tokenizer.chat_template = KNOWN[name]
    template = ChatTemplate.of(tokenizer, "mine")
    form = answer_form(template)
    asked: Any = [{"role": "user", "content": "a?"}]
    call = {"type": "function", "function": {"name": "judge", "arguments": arguments}}
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    prompt = template.render(asked, TOOLS, add_generation_prompt=True)
    written = template.render([*asked, turn], TOOLS)
    assert read(form, written[len(prompt) :], TOOLS, thinking=False) == ("", [("judge", arguments)])


PLAIN = {
    "text": {"type": "string"}, "n": {"type": "integer"}, "x": {"type": "number"}, "sure": {"type": "boolean"},
    "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "list": {"type": "array"}, "held": {"type": "object"},
    "of": {"$ref": "#/$defs/Kind"}, "either": {"type": ["integer", "null"]},
}  # fmt: skip
TYPED = {"type": "object", "properties": PLAIN, "$defs": {"Kind": {"enum": ["1", "true", "null"]}}}
OBJECT = st.dictionaries(texts(min_size=1, max_size=5), JSON, max_size=2)
ARGUMENTS = st.fixed_dictionaries({}, optional={
    "text": st.sampled_from(["7", "true", "None", "", " a\n", '"b"']) | texts(max_size=5), "n": st.integers(),
    "x": st.integers() | st.floats(allow_nan=False, allow_infinity=False), "sure": st.booleans(),
    "maybe": st.none() | st.sampled_from(["7", "True", "[1]"]), "list": st.lists(JSON, max_size=3), "held": OBJECT,
    "of": st.sampled_from(["1", "true", "null"]), "either": st.none() | st.integers(),
})  # fmt: skip


@settings(max_examples=25)
@given(name=st.sampled_from(["qwen3_5_nothink", "qwen3_6", "glm4moe", "nemotron_3_nano"]), arguments=ARGUMENTS)
def test_arguments_without_quotes_are_read_as_the_schema_says(
    tokenizer: Any, name: str, arguments: dict[str, Any]
) -> None:
    tools = [{"type": "function", "function": {"name": "judge", "description": "It does.", "parameters": TYPED}}]
    lessons(tokenizer, KNOWN[name]).check(calling(("judge", arguments)), tools)


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        ({"a": "7"}, {}),
        ({"a": "null"}, {"type": ["string", "null"]}),
        ({"a": "x\n</parameter>\ny"}, {"type": "string"}),
    ],
)
def test_arguments_that_would_be_taken_for_others_are_not_taught(
    tokenizer: Any, arguments: dict[str, Any], schema: dict[str, Any]
) -> None:
    parameters = {"type": "object", "properties": {"a": schema}}
    tools = [{"type": "function", "function": {"name": "judge", "description": "It does.", "parameters": parameters}}]
    with pytest.raises(PromptError, match="would not be read as these"):
        lessons(tokenizer, KNOWN["qwen3_6"]).check(calling(("judge", arguments)), tools)
