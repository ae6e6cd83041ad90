"""The rules of the reinforcement format, in which a grader scores what the model answers.

One line is `{"messages": [...], "tools": [...], ...}`: a conversation that ends with the user, and whatever else the
grader compares an answer with, under any other names (OpenAI's reinforcement fine-tuning guide, and the schema
`FineTuneReinforcementRequestInput` of its API, read 2026-11-30).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from finetune_assets.training_file.example import Example
from finetune_assets.training_file.findings import Findings, Problem, has_error
from finetune_assets.training_file.message_rules import (
    EXAMPLE_KEYS,
    check_turns,
    listed_messages,
    read_conversation,
)
from finetune_assets.training_file.target import Target
from finetune_assets.training_file.tool_rules import check_tool_turns


def is_reinforcement(example: dict[str, Any]) -> bool:
    """Whether a line means to be in this format: it ends with the user, and holds something to compare with."""
    messages = example.get("messages")
    last = messages[-1] if type(messages) is list and messages else None
    return type(last) is dict and last.get("role") in ("user", "developer") and bool(_references(example))


def read_task(example: dict[str, Any], target: Target, found: list[Problem]) -> Example:
    """Read and check everything but the images themselves. Where no error is found, all messages are well-formed."""
    raw = listed_messages(example, found)
    read = read_conversation(example, raw, target, found)
    if read.messages and (last := read.messages[-1].role) not in ("", "user"):
        told = f"the last message is from {last}; end with the user, because the grader scores what comes next"
        found.append(("last_not_user", told))
    if not has_error(found):
        check_turns("messages", read.messages, found)
        check_tool_turns(read.messages, read.tools, found)
    return read


class References:
    """What the lines of a file hold for the grader, which looks for the same names in all of them."""

    def __init__(self) -> None:
        self._n_lines = 0
        self._counts: Counter[str] = Counter()
        self._first_without: dict[tuple[str, ...], int] = {}

    def add(self, line: int, example: dict[str, Any]) -> None:
        """Note the names in a line."""
        names = _references(example)
        self._n_lines += 1
        self._counts.update(names)
        self._first_without.setdefault(names, line)

    def report(self, warnings: Findings) -> None:
        """Warn of names that most lines have and some do not."""
        for name, n in self._counts.items():
            if self._n_lines / 2 <= n < self._n_lines:
                line = min(line for names, line in self._first_without.items() if name not in names)
                told = f"it has no {name[:40]!r}, as {self._n_lines - n:,} of {self._n_lines:,} lines do not"
                warnings.add(line, "missing_reference", f"{told}; a grader that compares with it fails there")


def _references(example: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(key for key, held in example.items() if key not in EXAMPLE_KEYS and held is not None))
