"""Tokens that are no text, and characters that stand for them where text is looked through."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

SIGNS = range(0xFDD0, 0xFDF0)
"""Unicode's noncharacters, which no text is supposed to hold."""


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Tokens that are no text: the special ones and, as llguidance takes them, added ones that look like a tag."""
    return {
        added.content: token
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special or (added.content.startswith("<") and added.content.endswith(">"))
    }


class Signs:
    """Characters that stand for the control tokens in some marks, so that a token and its spelling are told apart."""

    def __init__(self, tokenizer: Any, marks: Iterable[str]) -> None:
        marks = list(marks)
        controls = control_tokens(tokenizer)
        self._ids = {name: controls[name] for name in sorted(controls, key=len, reverse=True)
                     if any(name in mark for mark in marks)}  # fmt: skip
        self._signs = {name: chr(SIGNS[place]) for place, name in enumerate(self._ids)}
        self._pattern = re.compile(f"({'|'.join(map(re.escape, self._ids))})") if self._ids else None

    @property
    def by_id(self) -> Mapping[int, str]:
        """The sign of each token."""
        return {token: self._signs[name] for name, token in self._ids.items()}

    def written(self, mark: str) -> str:
        """A mark with signs in the place of its control tokens."""
        return self._pattern.sub(lambda found: self._signs[found[0]], mark) if self._pattern else mark

    def parts(self, mark: str) -> list[str | int]:
        """A mark as texts and ids of control tokens."""
        pieces = self._pattern.split(mark) if self._pattern else [mark]
        return [self._ids.get(piece, piece) for piece in pieces if piece]
