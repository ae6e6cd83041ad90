"""Which of a file's lines are in which format: a provider takes a file in the one format that its method needs."""

from __future__ import annotations

from typing import Any, Literal

from finetune_assets.training_file.findings import MAX_FINDINGS, Findings
from finetune_assets.training_file.preference_rules import is_preference

Method = Literal["supervised", "dpo"]

_NAMES = {"supervised": "chat format", "dpo": "preference (DPO) format"}


class Formats:
    """The lines of one file by the method that their format is for."""

    def __init__(self, method: Method | None) -> None:
        self._wanted: Method | None = method
        self._counts: dict[Method, int] = {"supervised": 0, "dpo": 0}
        self._first_lines: dict[Method, list[int]] = {"supervised": [], "dpo": []}

    def add(self, line: int, example: dict[str, Any]) -> Method:
        """Note a line and say which method's rules it is to be checked by."""
        if "messages" in example and self._wanted != "dpo":
            method: Method = "supervised"
        elif self._wanted == "dpo":
            method = "supervised" if "messages" in example and "input" not in example else "dpo"
        else:
            method = "dpo" if is_preference(example) else "supervised"
        self._counts[method] += 1
        if self._counts[method] <= MAX_FINDINGS:
            self._first_lines[method].append(line)
        return method

    @property
    def method(self) -> Method:
        """What the file is for: as was asked, else as most of its lines are."""
        if self._wanted is not None:
            return self._wanted
        return "dpo" if self._counts["dpo"] > self._counts["supervised"] else "supervised"

    @property
    def all_wrong(self) -> bool:
        """Whether the whole file is in the other method's format."""
        return self._counts[self.method] == 0 < sum(self._counts.values())

    def report(self, errors: Findings) -> None:
        """Report the lines that are in the other format, in one finding where all of them are."""
        other: Method = "dpo" if self.method == "supervised" else "supervised"
        if self.all_wrong:
            message = f"the file is in the {_NAMES[other]}, but the method {self.method!r} takes the"
            errors.add(None, "wrong_format", f"{message} {_NAMES[self.method]}; choose the other, or another file")
            return
        for line in self._first_lines[other]:
            message = f"the line is in the {_NAMES[other]}, but the file in the {_NAMES[self.method]}"
            errors.add(line, "wrong_format", f"{message}; put it into a file of its own")
