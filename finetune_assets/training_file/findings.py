"""What validation hands back: findings, one report per file, and their JSON shape."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

WARNINGS = frozenset(
    {
        "blank_line",
        "contradictory_answers",
        "control_character",
        "dominant_answer",
        "duplicate_example",
        "identical_outputs",
        "image_in_text",
        "image_mime",
        "invalid_argument",
        "invisible_character",
        "missing_argument",
        "missing_user",
        "mojibake",
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
    """Findings of one severity, at most `MAX_FINDINGS` of each code."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()
        """How often each code occurs, those that are not kept included."""

    def add(self, line: int | None, code: str, message: str) -> None:
        """Keep the finding, or count it once the limit is reached."""
        self.counts[code] += 1
        if self.counts[code] <= MAX_FINDINGS:
            self.kept.append(Finding(line, code, message))

    def closed(self) -> list[Finding]:
        """Return all that was kept in the order of the file, which comes last itself.

        Where some were not kept, one more finding counts them by code.
        """
        kept = sorted(self.kept, key=lambda finding: (finding.line is None, finding.line or 0))
        left_out = {code: n - MAX_FINDINGS for code, n in self.counts.most_common() if n > MAX_FINDINGS}
        if not left_out:
            return kept
        counts = ", ".join(f"{n} {code}" for code, n in left_out.items())
        message = f"{sum(left_out.values())} more findings are not listed: {counts}; fix those above and validate again"
        return [*kept, Finding(None, "more_findings", message)]


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
            "tokens": None if self.structure_only else {"total": self.tokens_total, "max": self.tokens_max},
            "errors": [finding.to_dict() for finding in self.errors],
            "warnings": [finding.to_dict() for finding in self.warnings],
        }


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
