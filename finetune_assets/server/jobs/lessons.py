"""What a file's conversations teach a model, seen without its weights: all that they hold, and calls that are read.

A chat template may write calls of functions in a way that this server does not read, or write one thing for several.
A model would learn it and nobody could use it, so every call that is taught is read as an answer would be.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from finetune_assets.server.generation.answer_reader import AnswerReader
from finetune_assets.server.model.answer_form import AnswerForm, answer_form
from finetune_assets.server.model.chat_encoding import told_of_fences
from finetune_assets.server.model.chat_template import ChatTemplate, PromptError, Turn, content_parts
from finetune_assets.server.model.front import Front
from finetune_assets.server.model.plain_text import Fence

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]] | None
Call = tuple[str, Any]
"""Name and arguments."""


class Lessons:
    """Looks at conversations for one model.

    Raises:
        UnfitModelError: its chat template leaves out what is said or shown.
    """

    def __init__(self, front: Front, model: str) -> None:
        self._tokenizer = front.tokenizer
        self._model = model
        self._template = ChatTemplate.of(front.renderer, model, sees=front.processor is not None)

    @cached_property
    def _form(self) -> AnswerForm:
        return answer_form(self._template)

    def check(self, messages: Messages, tools: Tools) -> None:
        """See whether the template writes everything in a conversation, and its calls so that they are read.

        Raises:
            PromptError: it does not.
        """
        if (tools or any(_calls(message) for message in messages)) and self._form.calls is None:
            told = f"the model {self._model!r} cannot be taught tools: its chat template {self._form.no_calls}"
            raise PromptError(f"{told}; train another model, or leave them out", "unsupported_message")
        with told_of_fences():
            fence = Fence.around(self._tokenizer, [messages, tools])
            for turn in self._template.turns(self._template.plain(messages, fence)[0], fence.hide(tools)):
                fence.tokens(turn.prompt + turn.answer)
                if _calls(messages[turn.place]):
                    self._check_calls(messages[turn.place], turn, fence, tools)

    def _check_calls(self, message: dict[str, Any], turn: Turn, fence: Fence, tools: Tools) -> None:
        text = "".join(piece for piece, _ in fence.pieces(turn.answer))
        said, calls = read(self._form, text, tools, thinking=bool(message.get("reasoning_content")))
        parts = [part.get("text", "") for part in content_parts(message.get("content"))]
        if calls != _calls(message) or said.strip() != "".join(parts).strip():
            told = f"the calls of the assistant's turn {turn.place + 1} are written by the chat template of the model"
            raise PromptError(f"{told} {self._model!r} so that they would not be read as these", "unsupported_message")


def read(form: AnswerForm, answer: str, tools: Tools, *, thinking: bool) -> tuple[str, list[Call]]:
    """Read what a template wrote for an answer: what is said in it, and what is called."""
    functions = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools or ()}
    reader = AnswerReader(form, calling=True, thinking=thinking, functions=functions)
    said, calls = "", []
    for piece in (*reader.feed(answer), *reader.end()):
        match piece.kind:
            case "content":
                said += piece.text
            case "name":
                calls.append([piece.text, ""])
            case "arguments":
                calls[-1][1] += piece.text
            case _:
                pass
    return said, [(name, _parsed(arguments)) for name, arguments in calls]


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except json.JSONDecodeError:
        return None


def _calls(message: dict[str, Any]) -> list[Call]:
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    functions += [message["function_call"]] if message.get("function_call") else []
    return [(function["name"], json.loads(function["arguments"])) for function in functions]
