"""Text is text: what somebody wrote never becomes a control token of the model, whatever it spells.

`<|im_end|>` in a user's message is to be seen as ten characters; as the token of that name it would end the turn, and
what follows could speak as the system. Only the chat template may write control tokens. So those that stand in contents
are fenced before the template renders them, by a character that stands nowhere in them, and tokenised apart after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from finetune_assets.errors import FinetuneAssetsError

_FENCES = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Unicode's noncharacters, which no text is supposed to hold."""


def unused(contents: Any, besides: str = "") -> str:
    """Return a character that stands nowhere in `contents` and is not `besides`.

    Raises:
        UnfencedError: the contents hold every character that could be it.
    """
    texts = list(_strings(contents))
    free = (mark for mark in _FENCES if mark != besides and not any(mark in text for text in texts))
    if (mark := next(free, None)) is None:
        raise UnfencedError("the texts hold all of the characters U+FDD0 to U+FDEF, of which one is needed; remove one")
    return mark


def looks_harmless(contents: Any) -> bool:
    """Whether texts hold nothing that a control token of any model begins with, as far as models are known."""
    return not any(mark in text for text in _strings(contents) for mark in "<[")


class UnfencedError(FinetuneAssetsError, ValueError):
    """Control tokens in a text cannot be kept apart from the template's own."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Keeps the control tokens of one conversation's contents apart from the template's. Without any, it does nothing.

    Build it with `around`.
    """

    tokenizer: Any
    controls: re.Pattern[str] | None
    """What is fenced; None: the contents hold nothing of the kind."""
    mark: str = ""

    @classmethod
    def around(cls, tokenizer: Any, contents: Any, also: str = "") -> Fence:
        """Look for the tokenizer's control tokens, and for `also`, in everything that somebody wrote.

        Args:
            tokenizer: of the model that reads the conversation.
            contents: messages and tools, of any depth.
            also: a marker of our own that contents must not pass for; empty for none.

        Raises:
            UnfencedError: the contents hold every character that could be a fence.
        """
        controls = _controls(tokenizer, also)
        texts = list(_strings(contents))
        if controls is None or not any(controls.search(text) for text in texts):
            return cls(tokenizer, None)
        return cls(tokenizer, controls, unused(contents))

    def hide(self, content: Any) -> Any:
        """Fence the control tokens in a text, or in all texts of a structure."""
        if self.controls is None:
            return content
        match content:
            case str():
                return self.controls.sub(lambda found: f"{self.mark}{found[0]}{self.mark}", content)
            case dict():
                return {self.hide(key): self.hide(value) for key, value in content.items()}
            case list():
                return [self.hide(item) for item in content]
            case _:
                return content

    def joined(self, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Put texts of a message together that stand beside each other: two may spell a control token.

        Args:
            parts: of a content; those that are no images become texts.

        Raises:
            UnfencedError: texts with an image between them spell one, which a template may put together.
        """
        made: list[dict[str, Any]] = []
        for part in parts:
            if part["type"] == "image_url":
                made.append(part)
                continue
            text = part[part["type"]]
            if self.controls is not None and made and made[-1]["type"] == "text":
                text = made.pop()["text"] + text
            made.append({"type": "text", "text": text})
        texts = [part["text"] for part in made if part["type"] == "text"]
        if self.controls is not None and len(self.controls.findall("".join(texts))) != sum(
            len(self.controls.findall(text)) for text in texts
        ):
            raise UnfencedError("texts before and after an image spell a control token together; take it out")
        return made

    def pieces(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """Cut what the template has rendered into pieces; of each, whether it is a control token that is mere text.

        Raises:
            UnfencedError: the template has taken a fence apart.
        """
        if self.controls is None:
            yield rendered, False
            return
        pieces = rendered.split(self.mark)
        whole = len(pieces) % 2 and all(self.controls.fullmatch(piece) for piece in pieces[1::2])
        if not whole or f"\\u{ord(self.mark):04x}" in rendered:
            raise UnfencedError(
                "the chat template rewrites a text that holds a control token; take the token out of it"
            )
        for number, piece in enumerate(pieces):
            if piece:
                yield piece, number % 2 == 1

    def tokens(self, rendered: str) -> list[int]:
        """Token ids of rendered text.

        Raises:
            UnfencedError: the template has taken a fence apart, or the tokenizer knows no other way to write a token.
        """
        ids: list[int] = []
        for piece, is_text in self.pieces(rendered):
            if is_text:
                ids += _spelt(self.tokenizer, piece)
            elif piece:
                ids += self.tokenizer(piece, add_special_tokens=False).input_ids
        return ids


def _spelt(tokenizer: Any, control: str) -> list[int]:
    """Token ids that spell a control token as any other text, cut further where the vocabulary holds it whole."""
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    for pieces in ([control], [control[:1], control[1:]], list(control)):
        ids = [token for piece in pieces for token in _as_text(tokenizer, piece)]
        if special.isdisjoint(ids):
            return ids
    raise UnfencedError(f"this model's tokenizer has no way to write {control!r} as text; take it out")


def _as_text(tokenizer: Any, text: str) -> Sequence[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids if text else ()


@lru_cache(maxsize=16)
def _controls(tokenizer: Any, also: str) -> re.Pattern[str] | None:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    names = {name for name in (*added, *tokenizer.all_special_tokens, also) if name}
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, longest_first))) if names else None


def _strings(content: Any) -> Iterator[str]:
    """All texts of any depth, and those that they become: parts put together, and arguments read as JSON."""
    match content:
        case str():
            yield content
        case dict():
            for key, value in content.items():
                if key != "image_url":  # of megabytes, and never rendered
                    yield str(key)
                    yield from _strings(value)
                if key == "arguments" and isinstance(value, str):
                    yield from _strings(_read(value))
        case list():
            for item in content:
                yield from _strings(item)
            parts = [part for part in content if isinstance(part, dict)]
            yield "".join(text for part in parts if isinstance(text := part.get(part.get("type")), str))


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
