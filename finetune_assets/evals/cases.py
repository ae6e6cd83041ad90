"""A labelled question out of somebody's evaluation, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One question with its answer."""

    where: str
    """Where it stands, such as `items.jsonl:3`."""
    messages: list[dict[str, Any]]
    """What the model is asked, in the chat format of training files."""
    answer: str


@dataclass(frozen=True, slots=True)
class Left:
    """What is not taken over."""

    where: str
    reason: str


@dataclass(slots=True)
class Cases:
    """What was found in the files."""

    taken: list[Case] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What is different in a task, of all cases together."""
    labels: list[str] | None = None
    """All answers there are, where the files say so."""

    def remark(self, words: str) -> None:
        """Note a difference once."""
        if words not in self.remarks:
            self.remarks.append(words)


def text_message(role: str, text: str) -> dict[str, Any]:
    """Make a message of one text."""
    return {"role": role, "content": text}
