"""What a model is shown: a conversation as its own chat template writes it, and where its answers stand in that.

A prompt ends where the answer begins once it is written out. Mostly that is the template's own generation prompt. But
some templates put more before an answer (Qwen3 an empty `<think>` block, gpt-oss the name of a channel) or invite
something else than an answer (DeepSeek-R1 to think). So an answer is written out once, and the prompt cut before it:
what is trained and what is asked then are the same text, and what is generated is the answer and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from finetune_assets.errors import FinetuneAssetsError, UnfitModelError
from finetune_assets.server.model.plain_text import Fence

_TEMPLATE_ROLES = {"developer": "system", "function": "tool"}
_PLACEHOLDER = "Placeholder4Answer"
_TOLD = ("Question2", "Answer3")
_SWITCHES = ("enable_thinking", "thinking")
"""Variables of templates that can ask a model to think first, or not to."""
_DEGREE = "reasoning_effort"

Message = dict[str, Any]
Tools = list[dict[str, Any]] | None


class PromptError(FinetuneAssetsError, ValueError):
    """A request that this model cannot take. `code` is OpenAI's error code, `param` the request's field."""

    def __init__(self, message: str, code: str, param: str = "messages") -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Turn:
    """An assistant's turn as the chat template renders it."""

    place: int
    """Which of the messages it is."""
    prompt: str
    """Everything before its answer."""
    answer: str
    """What the answer adds, its end included."""
    n_images: int
    """How many the prompt shows."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The chat template of one model. Build it with `of`, which tries out what the template does."""

    renderer: Any
    """The tokenizer, or the processor of a model that takes images by itself."""
    model: str
    marker: str
    """Stands for an image in contents that are strings; empty where the template writes images itself."""
    in_parts: bool = False
    """Whether contents are lists of parts. Otherwise they are strings, but for those with images."""
    cut: bool = False
    """Whether an answer begins elsewhere than where the generation prompt ends."""

    @classmethod
    def of(cls, renderer: Any, model: str, marker: str = "", *, sees: bool = False) -> ChatTemplate:
        """Try the template out.

        Args:
            renderer: what has `apply_chat_template`.
            model: the name to speak of it by.
            marker: stands for an image in contents that are strings.
            sees: whether the template itself writes where an image is.

        Raises:
            UnfitModelError: there is no template, or it leaves out what is said or shown.
        """
        if renderer.chat_template is None:
            raise UnfitModelError(f"{model!r} has no chat template; use an instruction-tuned model")
        plain = cls(renderer, model, marker)
        refusal: PromptError | None = None
        for template in (replace(plain, in_parts=True), plain) if sees else (plain,):
            try:
                at_once = template._answers_at_once(sees=sees)
            except PromptError as error:  # it may take contents of another form
                refusal = error
                continue
            if at_once is not None:
                return replace(template, cut=not at_once)
        if refusal is not None and not sees:
            raise UnfitModelError(str(refusal)) from refusal
        what = "a question, its image or its answer" if sees else "a question or its answer"
        raise UnfitModelError(f"the chat template of {model!r} leaves out {what}")

    def around(self) -> tuple[str, str]:
        """What stands between the prompt and an answer, which is blank, and what follows the answer."""
        question, answer = _TOLD
        said = [{"role": role, "content": self.content([_said(text)])} for role, text in
                (("user", question), ("assistant", answer))]  # fmt: skip
        before, _answer, after = self.render(said, None).rpartition(answer)
        return before[len(self._prompt(said[:1], None)) :], after

    def shortest_prompt(self) -> str:
        """A prompt that ends as all do."""
        return self._prompt([{"role": "user", "content": self.content([_said(_TOLD[0])])}], None)

    def prompt(self, messages: list[Message], tools: Tools = None, effort: str | None = None) -> str:
        """The text up to where the assistant's answer begins.

        Args:
            messages: as `plain` returns them.
            tools: as `plain_tools` returns them.
            effort: how much reasoning is asked for; None: the answer comes at once.

        Raises:
            PromptError: the template does not take the conversation, or leaves a part of it out.
        """
        text = self._prompt(messages, tools, effort)
        self._check_complete(text, messages, tools)
        return text

    def turns(self, messages: list[Message], tools: Tools) -> Iterator[Turn]:
        """The assistant's turns, in order.

        Raises:
            PromptError: the template does not take the conversation, leaves a part of it out, or writes an answer in
                such a way that no prompt leads to it.
        """
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._prompt(messages[:place], tools)
            after = self.render(messages[: place + 1], tools)
            if not after.startswith(before):
                raise PromptError(
                    f"the chat template of the model {self.model!r} writes the assistant's turn {place + 1} so that no "
                    "prompt leads to it; leave out reasoning and calls of tools, or train another model",
                    "unsupported_message",
                )
            answer = after[len(before) :]
            self._must_call(answer, message)
            for text in _texts(message):
                self._must_contain(answer, text, "messages of the role assistant")
            self._check_complete(before, messages[:place], tools, answers=False)
            yield Turn(place, before, answer, sum(map(_n_images, messages[:place])))

    def plain(self, messages: list[Message], fence: Fence) -> tuple[list[Message], list[str]]:
        """Messages as the template takes them, and the URLs of their images in order.

        The arguments of tool calls become objects, and a refusal is what the assistant says. What tools say stands in
        the order of the calls, by which alone some templates tell whose it is. Control tokens in what somebody wrote
        are fenced.
        """
        urls: list[str] = []
        plain = []
        for message in _in_order_of_calls(messages):
            parts = []
            for part in fence.joined(content_parts(message.get("content") or message.get("refusal"))):
                if part["type"] == "image_url":
                    urls.append(part["image_url"]["url"])
                    parts.append({"type": "image"})
                else:
                    parts.append({"type": "text", "text": fence.hide(part["text"])})
            role = _TEMPLATE_ROLES.get(message["role"], message["role"])
            plain.append({"role": role, "content": self.content(parts)} | fence.hide(_tool_fields(message)))
        return plain, urls

    def content(self, parts: list[dict[str, Any]]) -> Any:
        """A message's content as the template takes it."""
        shown = any(part["type"] == "image" for part in parts)
        if self.in_parts or (shown and not self.marker):
            return parts
        return "".join(part.get("text", self.marker) for part in parts)

    def _prompt(self, messages: list[Message], tools: Tools, effort: str | None = None) -> str:
        if not self.cut or tools or effort:  # an answer that calls a tool may begin otherwise
            return self.render(messages, tools, effort, add_generation_prompt=True)
        answered = [*messages, {"role": "assistant", "content": self.content([_said(_PLACEHOLDER)])}]
        before, found, _after = self.render(answered, tools).rpartition(_PLACEHOLDER)
        if not found:
            raise PromptError(f"the chat template of {self.model!r} leaves out an answer", "unsupported_message")
        return before

    def _answers_at_once(self, *, sees: bool) -> bool | None:
        """Whether an answer begins where the generation prompt ends; None where something said is left out."""
        question, answer = _TOLD
        shown = [{"type": "image"}] if sees else []
        asked = {"role": "user", "content": self.content([_said(question), *shown])}
        answered = {"role": "assistant", "content": self.content([_said(answer)])}
        prompt = self.render([asked], None, add_generation_prompt=True)
        whole = self.render([asked, answered], None)
        if question not in whole or answer not in whole or "{'type'" in whole:
            return None
        if sees and whole == self.render([{**asked, "content": self.content([_said(question)])}, answered], None):
            return None
        return whole.startswith(prompt) and not whole[len(prompt) : whole.rindex(answer)].strip()

    def render(
        self, messages: list[Message], tools: Tools, effort: str | None = None, *, add_generation_prompt: bool = False
    ) -> str:
        """What the template writes.

        Raises:
            PromptError: it does not take the conversation.
        """
        switched = {name: effort is not None for name in _SWITCHES if name in str(self.renderer.chat_template)}
        degree = {_DEGREE: effort} if effort else {}
        how = {"tools": tools, "tokenize": False, "add_generation_prompt": add_generation_prompt, **switched, **degree}
        try:
            return self.renderer.apply_chat_template(messages, **how)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # a template computes, and adds or looks up what is not there
            message = f"the chat template of the model {self.model!r} does not take this conversation: {error}"
            raise PromptError(message, "unsupported_message") from error

    def _check_complete(self, rendered: str, messages: list[Message], tools: Tools, *, answers: bool = True) -> None:
        asked = [message for message in messages if answers or message["role"] != "assistant"]
        told = [(text, message["role"]) for message in asked for text in _texts(message)]
        if not _in_order(rendered, [text for text, _ in told]):
            everything = "\0".join(text for text, _ in told)
            for text, role in dict.fromkeys(told):  # what one message says may be a part of another
                self._must_contain(rendered, text, f"messages of the role {role}", everything.count(text))
        for message in messages:
            self._must_call(rendered, message)
        for tool in tools or ():
            self._must_contain(rendered, tool["function"]["name"], "tools")

    def _must_call(self, rendered: str, message: Message) -> None:
        for call in message.get("tool_calls", ()):
            for text in (call["function"]["name"], *_texts_in(call["function"]["arguments"])):
                self._must_contain(rendered, text, "tool_calls")

    def _must_contain(self, rendered: str, content: str, what: str, times: int = 1) -> None:
        if sum(rendered.count(form) for form in _forms(content)) < times:
            message = f"the chat template of the model {self.model!r} leaves out {what}; train a model that knows them"
            raise PromptError(message, "unsupported_message")


def content_parts(content: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """A message's content as a list of parts."""
    return content if isinstance(content, list) else [_said(content or "")]


def _n_images(message: Message) -> int:
    return sum(part["type"] == "image" for part in content_parts(message["content"]))


def _in_order(rendered: str, told: list[str]) -> bool:
    """Whether everything stands there, one after the other: the usual case, in one pass however much it is."""
    at = 0
    for text in told:
        found = ((rendered.find(form, at), form) for form in _forms(text))
        place, form = next(((place, form) for place, form in found if place >= 0), (-1, ""))
        if place < 0:
            return False
        at = place + len(form)
    return True


def _forms(content: str) -> list[str]:
    """How templates write it: as it is, or, of what a tool has said, as a JSON string."""
    return list(dict.fromkeys((content, json.dumps(content)[1:-1], json.dumps(content, ensure_ascii=False)[1:-1])))


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _texts(message: Message) -> list[str]:
    texts = [part.get("text", "").strip() for part in content_parts(message["content"])]
    return [text for text in texts if text]


def _in_order_of_calls(messages: list[Message]) -> list[Message]:
    """Messages of tools beside each other in the order of the calls they answer, each with the name of its function."""
    ordered: list[Message] = []
    calls: dict[str, tuple[int, str]] = {}
    start = 0
    for place, message in enumerate(messages):
        if message["role"] != "tool":
            made = message.get("tool_calls") or []
            calls = {call["id"]: (number, call["function"]["name"]) for number, call in enumerate(made)}
            start = place + 1
            ordered.append(message)
            continue
        _, name = calls.get(message.get("tool_call_id", ""), (0, message.get("name")))
        ordered.append({**message, "name": name})
        ordered[start:] = sorted(ordered[start:], key=lambda m: calls.get(m.get("tool_call_id", ""), (0, ""))[0])
    return ordered


def _texts_in(value: Any) -> Iterator[str]:
    """Keys and texts of any depth."""
    match value:
        case str():
            yield value
        case dict():
            for key, held in value.items():
                yield key
                yield from _texts_in(held)
        case list():
            for item in value:
                yield from _texts_in(item)


def _tool_fields(message: Message) -> dict[str, Any]:
    fields = {name: message[name] for name in ("name", "tool_call_id", "reasoning_content") if message.get(name)}
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    functions += [message["function_call"]] if message.get("function_call") else []
    calls = [{"name": f["name"], "arguments": json.loads(f["arguments"])} for f in functions]
    if calls:
        fields["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    return fields
