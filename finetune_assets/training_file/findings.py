"""What validation hands back: findings, one report per file, and their JSON shape."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

WARNINGS = frozenset(
    {
        "blank_line",
        "byte_order_mark",
        "contradictory_answers",
        "control_character",
        "dominant_answer",
        "duplicate_example",
        "identical_outputs",
        "image_in_text",
        "image_mime",
        "image_plain_http",
        "invalid_argument",
        "invisible_character",
        "missing_argument",
        "missing_reference",
        "missing_user",
        "mojibake",
        "no_image_training",
        "not_compared",
        "null_key",
        "parallel_calls",
        "parallel_without_tools",
        "repeated_role",
        "replacement_character",
        "secret",
        "single_answer",
        "special_token",
        "system_not_first",
        "too_long",
        "undeclared_function",
        "unknown_key",
    }
)
"""Codes that a provider lets pass but a careful person would not; every other code is an error."""
_OWN_LINE = frozenset({"contradictory_answers", "duplicate_example", "leak"})
"""Codes that say something of their line alone, however many lines there are."""
_SYSTEMATIC = 10
"""Lines with the same finding that have one cause, where they are half of the file at least."""
_VARYING = re.compile(r"'(?:[^'\\]|\\.)*'|\b0x[0-9a-f]+|\d+")
_MAX_CAUSES = 10_000
_MAX_NAMES = 8
Problem = tuple[str, str]
"""Code and message of something wrong with a line, before the line is known."""
MAX_FINDINGS = 10_000
"""Findings of one code kept per file; the rest is counted, so that a hostile file cannot fill the memory."""


def has_error(found: list[Problem]) -> bool:
    """Whether any of the problems is more than a warning."""
    return any(code not in WARNINGS for code, _ in found)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a file. `line` counts from 1; None speaks of the whole file."""

    line: int | None
    code: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Give the published JSON shape: line, code, message."""
        return {"line": self.line, "code": self.code, "message": self.message}


class Findings:
    """Findings of one severity, at most `MAX_FINDINGS` of each code.

    What most lines of a file have in common has one cause, and becomes one finding that counts the lines.
    """

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()
        """How often each code occurs, those that are not kept included; what is one finding when closed counts once."""
        self._lines_of: dict[tuple[str, str], list[int]] = {}
        """Of each cause, in how many lines it was found, the last of them, and how often."""
        self._null_lines: list[int] = [0, 0, 0]
        self._null_keys: dict[str, None] = {}

    def add(self, line: int | None, code: str, message: str) -> None:
        """Keep the finding, or count it once the limit is reached."""
        if code == "null_key" and line is not None:
            _count_line(self._null_lines, line)
            self._null_keys[message.rpartition(".")[2]] = None
            return
        self.counts[code] += 1
        if line is not None and code not in _OWN_LINE and len(self._lines_of) < _MAX_CAUSES:
            _count_line(self._lines_of.setdefault(_cause(code, message), [0, 0, 0]), line)
        if self.counts[code] <= MAX_FINDINGS:
            self.kept.append(Finding(line, code, message))

    def closed(self, n_lines: int) -> list[Finding]:
        """Return all that was kept in the order of the file, which comes last itself.

        Where some were not kept, one more finding counts them by code.

        Args:
            n_lines: Of the file.
        """
        self._note_nulls()
        systematic = self._systematic(n_lines)
        kept: list[Finding] = []
        for finding in self.kept:
            if (cause := _cause(finding.code, finding.message)) not in systematic:
                kept.append(finding)
            elif n_more := systematic[cause]:
                told = f"{finding.message} (and the same in {n_more:,} more lines)"
                kept.append(Finding(finding.line, finding.code, told))
                systematic[cause] = 0
        kept.sort(key=lambda finding: (finding.line is None, finding.line or 0))
        listed = Counter(finding.code for finding in kept)
        left_out = {code: n - listed[code] for code, n in self.counts.most_common() if n > listed[code]}
        if not left_out:
            return kept
        counts = ", ".join(f"{n} {code}" for code, n in left_out.items())
        message = f"{sum(left_out.values())} more findings are not listed: {counts}; fix those above and validate again"
        return [*kept, Finding(None, "more_findings", message)]

    def _systematic(self, n_lines: int) -> dict[tuple[str, str], int]:
        """The causes that become one finding each, with the lines of each beside the first."""
        least = max(_SYSTEMATIC, n_lines / 2)
        causes = {cause: counted for cause, counted in self._lines_of.items() if counted[0] >= least}
        for (code, _), (_, _, n_found) in causes.items():
            self.counts[code] -= n_found - 1
        return {cause: lines - 1 for cause, (lines, _, _) in causes.items()}

    def _note_nulls(self) -> None:
        if not (lines := self._null_lines[0]):
            return
        names = list(self._null_keys)
        more = f" and {len(names) - _MAX_NAMES} others" if len(names) > _MAX_NAMES else ""
        told = (
            f"{lines:,} lines hold null in {', '.join(names[:_MAX_NAMES])}{more}, as `datasets` writes keys of others"
        )
        self.counts["null_key"] += 1
        advice = "null counts as absent here, but a provider may refuse it, so drop these keys"
        self.kept.append(Finding(None, "null_key", f"{told}; {advice}"))


def _count_line(counted: list[int], line: int) -> None:
    """Count a finding in [lines, the last of them, findings]."""
    counted[2] += 1
    if counted[1] != line:
        counted[0] += 1
        counted[1] = line


def _cause(code: str, message: str) -> tuple[str, str]:
    """What findings have in common that differ in numbers and quotations alone."""
    return code, _VARYING.sub("", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What one file holds and what is wrong with it."""

    path: str
    sha256: str
    """Hash of the file's bytes, hexadecimal."""
    bytes: int
    n_lines: int
    """Lines in the file, blank and broken ones included."""
    n_examples: int
    """Well-formed examples: what a provider would take from the file. Repeated and leaked ones count."""
    n_images: int
    tokens_total: int
    """Tokens of all well-formed examples, images included, for one epoch."""
    tokens_max: int
    """Tokens of the longest example."""
    structure_only: bool = False
    """Whether tokens, images and answers were left uncounted."""
    tool_tokens: int = 0
    """Those of them that declared functions cost, an estimate."""
    token_histogram: dict[int, int] = field(default_factory=dict)
    """Number of examples by token count, in bins that double: key 64 counts examples of 64 to 127 tokens."""
    message_histogram: dict[int, int] = field(default_factory=dict)
    """Number of examples by the number of their messages; of a preference pair, those of its prompt."""
    answers: dict[str, int] = field(default_factory=dict)
    """How often each final answer occurs, the commonest first; empty where the answers are free text."""
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    error_counts: dict[str, int] = field(default_factory=dict)
    """How often each error occurs, those that are not listed included; `warning_counts` likewise."""
    warning_counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the published JSON shape of one file."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "n_lines": self.n_lines,
            "n_examples": self.n_examples,
            "tokens": None if self.structure_only else self._tokens(),
            "errors": [finding.to_dict() for finding in self.errors],
            "warnings": [finding.to_dict() for finding in self.warnings],
        }

    def _tokens(self) -> dict[str, int]:
        """The longest example and all together; where functions are declared, also their part, which is an estimate."""
        counted = {"total": self.tokens_total, "max": self.tokens_max}
        return counted | ({"tools_estimated": self.tool_tokens} if self.tool_tokens else {})


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a training file and, where given, its validation file (in this order)."""

    files: list[FileReport]

    @property
    def ok(self) -> bool:
        """Whether no file has an error; warnings do not count."""
        return not any(file.errors for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Give the published JSON shape: `ok` and `files`."""
        return {"ok": self.ok, "files": [file.to_dict() for file in self.files]}
