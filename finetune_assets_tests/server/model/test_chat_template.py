"""A template that leaves out a part of what was said is found out, whatever else is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_assets.server.model.chat_template import ChatTemplate, PromptError
from finetune_assets_tests.server.networks import PARTS_TEMPLATE, chat
from finetune_assets_tests.tiny_models import CHAT_TEMPLATE, write_text_model

WITHOUT_SYSTEM = CHAT_TEMPLATE.replace("in messages %}", "in messages if message['role'] != 'system' %}", 1)
FIRST_PART = PARTS_TEMPLATE.replace("in message['content'] %}", "in message['content'][:1] %}", 1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("models") / "model"
    return AutoTokenizer.from_pretrained(write_text_model(folder))


def template(tokenizer: Any, written: str, *, in_parts: bool = False) -> ChatTemplate:
    tokenizer.chat_template = written
    return ChatTemplate(tokenizer, "mine", "", in_parts=in_parts)


@pytest.mark.parametrize("system", ["Answer in one word.", "fine", "user"])
def test_a_system_message_that_is_left_out_is_missed_though_a_question_says_the_same(
    tokenizer: Any, system: str
) -> None:
    messages = [{"role": "system", "content": system}, *chat("Is it fine, user? user?")]
    with pytest.raises(PromptError, match="'mine' leaves out messages of the role system"):
        template(tokenizer, WITHOUT_SYSTEM.replace("{{ message['role'] }}", "says")).prompt(messages)
    assert system in template(tokenizer, CHAT_TEMPLATE).prompt(messages)


def test_every_part_of_a_message_is_looked_for(tokenizer: Any) -> None:
    parts = [{"type": "text", "text": text} for text in ("The longer part.", "Short.", "  ")]
    messages = [{"role": "user", "content": parts}]
    with pytest.raises(PromptError, match="'mine' leaves out messages of the role user"):
        template(tokenizer, FIRST_PART, in_parts=True).prompt(messages)
    assert "part.Short.  <" in template(tokenizer, PARTS_TEMPLATE, in_parts=True).prompt(messages)


def test_the_same_said_many_times_is_complete(tokenizer: Any) -> None:
    messages = [*chat("Yes", "Yes"), *chat("a Yes, Yes"), *chat("e", "Ye"), *chat('"Yes"')]
    assert template(tokenizer, CHAT_TEMPLATE).prompt(messages).count("Yes") == 5
