"""Which of a file's lines are in which format: a provider takes a file in the one format that its method needs."""

from __future__ import annotations

from typing import Any

from finetune_assets.training_file.findings import MAX_FINDINGS, Findings
from finetune_assets.training_file.message_rules import EXAMPLE_KEYS
from finetune_assets.training_file.preference_rules import is_preference
from finetune_assets.training_file.reinforcement_rules import is_reinforcement
from finetune_assets.training_file.target import METHODS, Method

_NAMES: dict[Method, str] = {
    "supervised": "chat format",
    "dpo": "preference (DPO) format",
    "reinforcement": "reinforcement format",
}


class Formats:
    """The lines of one file by the method that their format is for.

    Args:
        method: What the file is to train; None takes what most lines are for, and never reinforcement, which only
            whoever has a grader can mean.
    """

    def __init__(self, method: Method | None) -> None:
        self._wanted: Method | None = method
        self._takes_chats = method in (None, "supervised")
        self._counts: dict[Method, int] = dict.fromkeys(METHODS, 0)
        self._first_lines: dict[Method, list[int]] = {method: [] for method in METHODS}

    def add(self, line: int, example: dict[str, Any]) -> Method:
        """Note a line and say which method's rules it is to be checked by."""
        method = self._method_of(example)
        self._counts[method] += 1
        if self._counts[method] <= MAX_FINDINGS:
            self._first_lines[method].append(line)
        return method

    def _method_of(self, example: dict[str, Any]) -> Method:
        if self._takes_chats and len(example) == 1 and "messages" in example:
            return "supervised"
        if is_preference(example) or (self._wanted == "dpo" and not ("messages" in example and "input" not in example)):
            return "dpo"
        if self._wanted == "reinforcement":
            return "supervised" if _is_answered(example) else "reinforcement"
        return "reinforcement" if is_reinforcement(example) else "supervised"

    @property
    def method(self) -> Method:
        """What the file is for: as was asked, else as most of its lines are."""
        if self._wanted is not None:
            return self._wanted
        return "dpo" if self._counts["dpo"] > self._counts["supervised"] else "supervised"

    @property
    def all_wrong(self) -> bool:
        """Whether the whole file is in another method's format."""
        return self._counts[self.method] == 0 < sum(self._counts.values())

    def report(self, errors: Findings) -> None:
        """Report the lines that are in another format, in one finding where all of them are in the same one."""
        others: list[Method] = [method for method in METHODS if method != self.method and self._counts[method]]
        if self.all_wrong and len(others) == 1:
            told = f"the file is in the {_NAMES[others[0]]}, but the method {self.method!r} takes the"
            advice = f"choose the method {others[0]!r} (--method {others[0]}), or another file"
            errors.add(None, "wrong_format", f"{told} {_NAMES[self.method]}; {advice}")
            return
        for other in others:
            for line in self._first_lines[other]:
                message = f"the line is in the {_NAMES[other]}, but the file in the {_NAMES[self.method]}"
                errors.add(line, "wrong_format", f"{message}; put it into a file of its own")


def _is_answered(example: dict[str, Any]) -> bool:
    """Whether a line is a conversation that the assistant ends, with nothing for a grader beside it."""
    messages = example.get("messages")
    last = messages[-1] if type(messages) is list and messages else None
    return type(last) is dict and last.get("role") == "assistant" and EXAMPLE_KEYS.issuperset(example)
