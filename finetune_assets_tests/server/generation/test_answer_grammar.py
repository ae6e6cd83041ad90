"""What a model may write as a call is what its template writes, with arguments that fit the function's schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.answer_grammar import Calling, Function, answer_grammar
from finetune_assets.server.generation.constraints import Grammars
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import GenerationRequest, ModelRef
from finetune_assets.server.model.answer_form import AnswerForm, answer_form, ended
from finetune_assets.server.model.chat_template import ChatTemplate
from finetune_assets.server.model.control_tokens import Signs, control_tokens
from finetune_assets.server.model.tools import tools_of
from finetune_assets_tests.server.families.building import published
from finetune_assets_tests.server.networks import chat
from finetune_assets_tests.tiny_models import write_text_model

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"$ref": "#/$defs/Unit"},
        "warm": {"type": "boolean"}, "at": {"anyOf": [{"type": "object", "required": ["x"]}, {"type": "null"}]},
    },
    "required": ["city", "days"], "additionalProperties": False, "$defs": {"Unit": {"enum": ["C", "F"]}},
}  # fmt: skip
TEMPLATES = ("qwen3_5_nothink", "qwen3_6", "glm4moe", "nemotron_3_nano")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(write_text_model(tmp_path_factory.mktemp("models") / "model"))
    made.add_tokens(["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"])
    return made


class Writer:
    """Writes calls as a template does, and says what may be written."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        tokenizer.chat_template = published(name)
        self._tokenizer = tokenizer
        ends = {tokenizer.eos_token_id}
        form, _ = ended(answer_form(ChatTemplate.of(tokenizer, "mine")), control_tokens(tokenizer), ends)
        self.form: AnswerForm = form
        self._signs = Signs(tokenizer, form.marks)
        self._grammars = Grammars(tokenizer, len(tokenizer), ends)

    def call(self, *arguments: dict[str, Any], name: str = "weather") -> str:
        calls = self.form.calls
        assert calls is not None
        assert calls.tagged is not None
        written = [f"{name}{calls.named}{calls.tagged.written(values)}" for values in arguments]
        return calls.begin + (calls.between or "").join(written) + calls.end

    def may_be(self, text: str, schema: dict[str, Any] | None = None, **how: Any) -> bool:
        """Whether it is a whole answer."""
        calling = Calling((Function("weather", SCHEMA if schema is None else schema),), **{"must": True} | how)
        matcher = self._grammars.of_answer(answer_grammar(self.form, self._signs, calling, None, thinking=False))
        taken = all(matcher.consume_token(token) for token in self._tokenizer(text, add_special_tokens=False).input_ids)
        return taken and matcher.is_accepting()


@pytest.fixture(params=TEMPLATES)
def writer(tokenizer: Any, request: pytest.FixtureRequest) -> Writer:
    return Writer(tokenizer, request.param)


TOKYO = {"city": 'To "k" </p\nyo', "days": 3}


def test_arguments_that_fit_may_be_written(writer: Writer) -> None:
    for more in (
        {},
        {"unit": "F"},
        {"warm": True},
        {"at": None},
        {"at": {"x": [None, "ü"]}},
        {"warm": False, "at": {"x": 1}},
    ):
        assert writer.may_be(writer.call(TOKYO | more)), more


@pytest.mark.parametrize(
    "arguments",
    [{}, {"city": "a"}, {"city": "a", "days": "x"}, {"city": "a", "days": 1.5}, {"days": 1, "city": "a"},
     TOKYO | {"unit": "K"}, TOKYO | {"warm": "yes"}, TOKYO | {"at": {"y": 1}}, TOKYO | {"other": 1}],
)  # fmt: skip
def test_arguments_that_do_not_fit_may_not(writer: Writer, arguments: dict[str, Any]) -> None:
    assert not writer.may_be(writer.call(arguments))


def test_several_calls_something_said_before_and_none_at_all(writer: Writer) -> None:
    assert writer.may_be(writer.call(TOKYO, TOKYO))
    assert not writer.may_be(writer.call(TOKYO, TOKYO), several=False)
    assert not writer.may_be("It is warm.")
    assert writer.may_be("It is warm.", must=False)
    calls = writer.form.calls
    assert calls is not None
    said = "It is warm." + (calls.after_content or "") + writer.call(TOKYO).removeprefix(calls.begin)
    assert writer.may_be(said, must=False)
    assert not writer.may_be(writer.call(TOKYO, name="other"))


def test_a_function_without_arguments_and_one_with_any(writer: Writer) -> None:
    none = {"type": "object", "properties": {}, "additionalProperties": False}
    assert writer.may_be(writer.call({}), none)
    assert not writer.may_be(writer.call({"a": 1}), none)
    assert writer.may_be(writer.call({"a": 1, "b.c": "two"}), {"type": "object"})


TAGGED = (
    "{% for tool in tools or [] %}{{ tool['function']['name'] }}{% endfor %}{% for m in messages %}<|im_start|>"
    "{{ m['role'] + '\n' + m['content'] }}{% for call in m['tool_calls'] or [] %}"
    "<call={{ call['function']['name'] }}>\n"
    "{% for key, value in call['function']['arguments'].items() %}<arg={{ key }}>\n"
    "{{ value if value is string else value | tojson }}\n</arg>\n{% endfor %}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Short, as the tiny model's context is."""


def test_a_model_of_random_weights_calls_with_arguments_that_fit(tmp_path: Path) -> None:
    base = BaseModel("tiny", str(write_text_model(tmp_path / "model", template=TAGGED)), vision=False)
    days = {"type": "integer", "minimum": 0, "maximum": 9}
    named = {"days": days, "unit": {"enum": ["C", "F"]}, "warm": {"type": "boolean"}}
    schema = {"type": "object", "properties": named, "required": [*named], "additionalProperties": False}
    asked = GenerationRequest(
        model=ModelRef(base, None), messages=chat("a?"), max_tokens=300, temperature=0.5, seed=1,
        tools=tools_of({"tools": [{"function": {"name": "weather", "parameters": schema}}]}),
        calling=Calling((Function("weather", schema),), must=True, several=False),
    )  # fmt: skip
    engine = Engine()
    (call,) = engine.complete(asked).choices[0].calls
    engine.close()
    jsonschema.validate(json.loads(call.arguments), schema)
    assert call.name == "weather"
