"""From an input and the questions about it to token ids: what all questions share, what each adds, and its options.

The input is a conversation. A question is put at the end of its last user message, or into one of its own after
another's message; a question that the conversation asks itself adds nothing, so that its prompt is the very one that
training and completions have. Options are what the assistant's answer may begin with.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any

from finetune_assets.server.model.chat_encoding import (
    IMAGE_SLOT,
    Encoder,
    ImageSource,
    Sequence,
    continuing,
    prepared,
    told_of_fences,
)
from finetune_assets.server.model.chat_template import Message, PromptError, content_parts
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.plain_text import Fence, unused

_APART = "\n\n"
MAX_OPTION_TOKENS = 4096
"""Of all options of one question together; each sees its own beginning and no other, which takes memory."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about an input."""

    parts: Several[dict[str, Any]]
    """Text and images in chat format that are put after the input; none where the conversation asks it itself."""
    options: Several[str]
    """What the answer may be."""


@dataclass(frozen=True, slots=True)
class EncodedQuestion:
    """A question in tokens."""

    shared: Sequence
    """The beginning of its prompt, the same object for all questions that share it; empty where nothing is shared."""
    tail: Sequence
    """The rest of the prompt: one token at least."""
    options: list[list[int]]
    """Of each option the tokens after the prompt."""


def encode_questions(
    network: Network, messages: list[Message], lead: str, questions: Several[Question], features: ImageSource
) -> list[EncodedQuestion]:
    """Encode an input once and each question by itself; `lead` is the text between them.

    Raises:
        PromptError: the model cannot take them, or an option cannot be told from another.
    """
    with told_of_fences():
        written = [messages, [lead], *(question.parts for question in questions), *(q.options for q in questions)]
        fence = Fence.around(network.tokenizer, [list(part) for part in written], network.template.marker)
        if network.whole:
            prompts = [_whole(network, messages, lead, question, features) for question in questions]
        else:
            prompts = _sharing(network, messages, lead, questions, features, fence)
        options = _Options(network, fence)
        return [
            EncodedQuestion(shared, tail, options.of(question, number))
            for number, (question, (shared, tail)) in enumerate(zip(questions, prompts, strict=True))
        ]


def _whole(
    network: Network, messages: list[Message], lead: str, question: Question, features: ImageSource
) -> tuple[Sequence, Sequence]:
    """A prompt that shares nothing, because only the model's own processor knows what its tokens are."""
    asked = _with_question(messages, lead, question.parts) if question.parts else messages
    encoder, plain = prepared(network, asked, None, features)
    return Sequence(), encoder.encode(_checked_length(network, network.template.prompt(plain)), len(encoder.urls))


def _sharing(
    network: Network,
    messages: list[Message],
    lead: str,
    questions: Several[Question],
    features: ImageSource,
    fence: Fence,
) -> list[tuple[Sequence, Sequence]]:
    """The beginning and the rest of each question's prompt."""
    shared, after = Sequence(), ""
    if any(question.parts for question in questions):
        place = unused([messages, lead, [list(question.parts) for question in questions]], besides=fence.mark)
        asked = _with_question(messages, lead, [{"type": "text", "text": place}])
        shared, after = _around_question(network, asked, place, features, fence)
    itself: tuple[Sequence, Sequence] | None = None
    prompts = []
    for question in questions:
        if question.parts:
            prompts.append((shared, _tail(network, question, after, features, fence)))
        else:
            itself = itself or _asked_itself(network, messages, features, fence)
            prompts.append(itself)
    return prompts


def _around_question(
    network: Network, messages: list[Message], place: str, features: ImageSource, fence: Fence
) -> tuple[Sequence, str]:
    """What stands before the place of a question in a conversation, and the text that follows it."""
    plain, urls = network.template.plain(messages, fence)
    encoder = _encoder(network, fence, urls, features)
    before, *after = network.template.prompt(plain).split(place)
    if len(after) != 1:
        message = f"the chat template of the model {network.base.name!r} does not write a question where it is put"
        raise PromptError(message, "unsupported_message", "input")
    return encoder.encode(_checked_length(network, before), len(urls)), after[0]


def _asked_itself(
    network: Network, messages: list[Message], features: ImageSource, fence: Fence
) -> tuple[Sequence, Sequence]:
    """The prompt of the conversation as it is, cut before its first image: many ask the same about other images."""
    plain, urls = network.template.plain(messages, fence)
    encoder = _encoder(network, fence, urls, features)
    whole = encoder.encode(_checked_length(network, network.template.prompt(plain)), len(urls))
    text = whole.ids.index(IMAGE_SLOT) if whole.images else 0
    return Sequence(whole.ids[:text], whole.learned[:text]), Sequence(
        whole.ids[text:], whole.learned[text:], whole.images
    )


def _tail(network: Network, question: Question, after: str, features: ImageSource, fence: Fence) -> Sequence:
    plain, urls = network.template.plain([{"role": "user", "content": list(question.parts)}], fence)
    encoder = _encoder(network, fence, urls, features)
    text = _checked_length(network, plain[0]["content"] + after)
    if urls:
        return encoder.encode(text, len(urls))
    ids = continuing(text, fence)
    return Sequence(ids, [False] * len(ids))


def _encoder(network: Network, fence: Fence, urls: list[str], features: ImageSource) -> Encoder:
    if urls and network.vision is None:
        raise PromptError(f"the model {network.base.name!r} takes no images", "invalid_image", "input")
    return Encoder(network, fence, urls, features)


def _with_question(messages: list[Message], lead: str, parts: Several[dict[str, Any]]) -> list[Message]:
    """Put a question's parts at the end of the last user message."""
    *before, last = messages
    if last["role"] != "user":
        return [*messages, {"role": "user", "content": [{"type": "text", "text": lead}, *parts]}]
    content = [*content_parts(last["content"]), {"type": "text", "text": f"{_APART}{lead}"}, *parts]
    return [*before, {**last, "content": content}]


class _Options:
    """Encodes the options of questions, of those that have the same ones once."""

    def __init__(self, network: Network, fence: Fence) -> None:
        self._fence = fence
        self._lead, _end = network.template.around()
        self._before = network.template.shortest_prompt()
        self._start = fence.tokens(self._before)
        self._known: dict[tuple[str, ...], list[list[int]]] = {}

    def of(self, question: Question, number: int) -> list[list[int]]:
        """Return the tokens of each option.

        Raises:
            PromptError: one cannot be told from another, or they are too many.
        """
        key = tuple(question.options)
        if key not in self._known:
            self._known[key] = self._encoded(question, number)
        return self._known[key]

    def _encoded(self, question: Question, number: int) -> list[list[int]]:
        hide = self._fence.hide
        made = [_after(self._before, self._start, self._lead + hide(one), self._fence) for one in question.options]
        for place, (option, ids) in enumerate(zip(question.options, made, strict=True)):
            first = made.index(ids)
            if not ids or first < place:
                other = repr(question.options[first][:100]) if ids else "none"
                message = (
                    f"Invalid 'questions[{number}]': this model cannot tell the option {option[:100]!r} from {other}."
                )
                raise PromptError(message, "invalid_value", f"questions[{number}]")
        if sum(map(len, made)) > MAX_OPTION_TOKENS:
            message = (
                f"Invalid 'questions[{number}]': its options have more than {MAX_OPTION_TOKENS:,} tokens together."
            )
            raise PromptError(message, "invalid_value", f"questions[{number}]")
        return made


def _after(before: str, start: list[int], text: str, fence: Fence) -> list[int]:
    """Token ids that a text adds to a prompt's end: some tokenizers put a space behind a control token."""
    whole = fence.tokens(before + text)
    return whole[len(start) :] if whole[: len(start)] == start else continuing(text, fence)


def _checked_length(network: Network, text: str) -> str:
    """Refuse a text that is longer than the context whatever its tokens are."""
    if len(text) > network.max_length * network.longest_token:
        message = f"This model's maximum context length is {network.max_length} tokens; your input has far more."
        raise PromptError(message, "context_length_exceeded", "input")
    return text
