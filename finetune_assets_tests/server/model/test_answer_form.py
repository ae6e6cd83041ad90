"""The form of answers is found in the chat templates that are published (those that TRL ships for its own tests)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_assets.server.model.answer_form import AnswerForm, Marks, TaggedArguments, answer_form, ended
from finetune_assets.server.model.bundled_template import with_tools
from finetune_assets.server.model.chat_template import ChatTemplate
from finetune_assets.server.model.control_tokens import Signs, control_tokens
from finetune_assets_tests.server.families.building import published
from finetune_assets_tests.tiny_models import CHAT_TEMPLATE, write_text_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(write_text_model(tmp_path_factory.mktemp("models") / "model"))


def form_of(tokenizer: Any, template: str) -> AnswerForm:
    tokenizer.chat_template = template
    return answer_form(ChatTemplate.of(tokenizer, "any"))


@pytest.mark.parametrize(
    ("name", "thought", "efforts"),
    [
        ("qwen3", Marks("<think>", "</think>"), ("medium",)),
        ("qwen3_5_think", Marks("", "</think>"), ("medium",)),
        ("qwen3_8", Marks("", "</think>"), ("low", "medium", "xhigh")),
        ("deepseek_r1_distill", Marks("", "</think>"), ("medium",)),
        ("gptoss", Marks("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"), ("low", "medium", "high")),
        ("qwen2_5", None, ()),
        ("llama3_1", None, ()),
    ],
)
def test_where_a_model_thinks_is_found(
    tokenizer: Any, name: str, thought: Marks | None, efforts: tuple[str, ...]
) -> None:
    form = form_of(tokenizer, published(name))
    assert (form.thought, form.efforts) == (thought, efforts)


@pytest.mark.parametrize("template", [published("qwen2_5"), published("qwen3"), with_tools(CHAT_TEMPLATE)])
def test_calls_in_the_form_of_hermes_are_found(tokenizer: Any, template: str) -> None:
    form = form_of(tokenizer, template)
    assert form.calls is not None
    assert form.calls.begin == '<tool_call>\n{"name": "'
    assert form.calls.named == '", "arguments": '
    assert form.calls.between == '}\n</tool_call>\n<tool_call>\n{"name": "'
    assert form.calls.after_content == '\n<tool_call>\n{"name": "'


def test_a_template_that_writes_one_call_only_is_known_by_it(tokenizer: Any) -> None:
    llama, gptoss = (form_of(tokenizer, published(name)).calls for name in ("llama3_1", "gptoss"))
    assert llama is not None
    assert (llama.begin, llama.named, llama.between, llama.after_content) == (
        '{"name": "', '", "parameters": ', None, None
    )  # fmt: skip
    assert gptoss is not None
    assert (gptoss.begin, gptoss.named, gptoss.end) == (
        " to=functions.", "<|channel|>commentary json<|message|>", "<|call|>"
    )  # fmt: skip


def test_arguments_that_stand_one_by_one_are_found(tokenizer: Any) -> None:
    glm, qwen = (form_of(tokenizer, published(name)).calls for name in ("glm4moe", "qwen3_5_nothink"))
    assert glm is not None
    assert (glm.begin, glm.named, glm.end) == ("\n<tool_call>", "\n", "</tool_call>")
    assert glm.tagged == TaggedArguments("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n")
    assert qwen is not None
    assert qwen.between == "</function>\n</tool_call>\n<tool_call>\n<function="
    assert qwen.tagged == TaggedArguments("<parameter=", ">\n", "\n</parameter>\n", ("True", "False", "None"))


@pytest.mark.parametrize(
    ("name", "why"),
    [("gemma3", "knows no tools"), ("lfm2", "leaves out calls"), ("gemma4", "calls in another way")],
)
def test_a_template_that_cannot_call_says_why(tokenizer: Any, name: str, why: str) -> None:
    form = form_of(tokenizer, published(name))
    assert form.calls is None
    assert why in form.no_calls


def test_a_template_that_takes_no_effort_knows_no_reasoning(tokenizer: Any) -> None:
    picky = "{% if reasoning_effort is defined %}{{ raise_exception('no') }}{% endif %}" + CHAT_TEMPLATE
    assert form_of(tokenizer, picky).efforts == ()


def test_what_ends_the_last_call_is_an_end_if_nothing_else_says_so(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<|call|>"], special_tokens=True)
    form = form_of(tokenizer, published("gptoss"))
    controls = control_tokens(tokenizer)
    cut, ends = ended(form, controls, {controls["<|im_end|>"]})
    assert ends == {controls["<|im_end|>"], controls["<|call|>"]}
    assert cut.calls is not None
    assert cut.calls.end == ""
    qwen, same = ended(form_of(tokenizer, published("qwen3")), controls, {controls["<|im_end|>"]})
    assert qwen.calls is not None
    assert (qwen.calls.end, same) == ("}\n</tool_call>", {controls["<|im_end|>"]})


def test_without_tools_the_bundled_template_writes_what_it_wrote(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    written = []
    for template in (CHAT_TEMPLATE, with_tools(CHAT_TEMPLATE)):
        tokenizer.chat_template = template
        written.append(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    assert written[0] == written[1]


def test_a_control_token_and_its_spelling_are_told_apart(tokenizer: Any, tmp_path: Path) -> None:
    del tmp_path
    signs = Signs(tokenizer, ["a<|im_start|>b"])
    assert signs.parts("a<|im_start|>b") == ["a", 1, "b"]
    assert signs.written("a<|im_start|>b") == f"a{signs.by_id[1]}b"
    assert signs.written("<|im_end|>") == "<|im_end|>"
