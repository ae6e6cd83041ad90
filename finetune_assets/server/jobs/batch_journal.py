"""A batch on disk: its input, and the answers so far, in `<home>/batches/<id>/`.

Answers are appended as they come and brought to the disk before they count, so that a batch whose server was killed
goes on after the last answer that counts. A line cut short by the kill is cut off, and its request is asked again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from finetune_assets.server.api.body_shape import CHAT, DECISIONS, BodyShapeError, limits_of, parse
from finetune_assets.server.database.batches import MAX_ERRORS
from finetune_assets.server.durable import append

MAX_LINES = 50_000
MAX_BYTES = 200 << 20
MAX_LINE_BYTES = CHAT.bytes
MAX_CUSTOM_ID = 512
"""Characters."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request of the input file."""

    number: int
    """Counted from 1."""
    custom_id: str
    body: Any
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a line: one line of the output file, or of the error file."""

    succeeded: bool
    wire: dict[str, Any]


@dataclass
class Progress:
    """The lines that are done, and what they used."""

    done: set[str] = field(default_factory=set)
    completed: int = 0
    failed: int = 0
    expired: bool = False
    """Whether there are lines for which the time was over."""
    usage: dict[str, Any] = field(
        default_factory=lambda: {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        }
    )

    def add(self, outcome: Outcome) -> None:
        """Count a line as done."""
        self.done.add(outcome.wire["custom_id"])
        if not outcome.succeeded:
            self.failed += 1
            self.expired = self.expired or outcome.wire["error"] is not None
            return
        self.completed += 1
        used = outcome.wire["response"]["body"].get("usage") or {}
        # Completions call what decisions call input and output prompt and completion.
        details = used.get("prompt_tokens_details") or used.get("input_tokens_details") or {}
        self.usage["input_tokens"] += used.get("prompt_tokens", used.get("input_tokens", 0))
        self.usage["input_tokens_details"]["cached_tokens"] += details.get("cached_tokens") or 0
        self.usage["output_tokens"] += used.get("completion_tokens", used.get("output_tokens", 0))
        self.usage["total_tokens"] += used.get("total_tokens", 0)


class Journal:
    """The folder of one batch. One writer at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output.jsonl"
        self.errors = folder / "errors.jsonl"
        self._input = folder / "input.jsonl"

    @property
    def has_input(self) -> bool:
        """Whether the input is here: another server, whose batch this was, has its own."""
        return self._input.exists()

    def take(self, source: Path) -> None:
        """Hold on to the input, which the client may delete while the batch runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._input.unlink(missing_ok=True)
        os.link(source, self._input)

    def validate(self, endpoint: str) -> tuple[list[Line], list[dict[str, Any]]]:
        """Look at the whole input; return the first line, and the errors in the words of the API.

        An error is an object of code, message, param and line.
        """
        if self._input.stat().st_size > MAX_BYTES:
            return [], [_error("file_too_large", f"The input file is larger than {MAX_BYTES >> 20} MB.")]
        first: list[Line] = []
        errors: list[dict[str, Any]] = []
        seen: set[str] = set()
        for number, raw in self._raw_lines():
            if isinstance(found := _parsed(number, raw, endpoint), dict):
                errors.append(found)
            else:
                if found.custom_id in seen:
                    message = f"The custom_id '{found.custom_id[:64]}' is not the only one of its kind in this file."
                    errors.append(_error("duplicate_custom_id", message, "custom_id", number))
                seen.add(found.custom_id)
                first = first or [found]
            if len(errors) == MAX_ERRORS:
                break  # a file may have a hundred million lines
            if len(seen) > MAX_LINES:
                return [], [_error("too_many_tasks", f"The input file has more than {MAX_LINES:,} requests.")]
        if not seen and not errors:
            errors.append(_error("empty_file", "The input file is empty. Put one request on each line."))
        return first, errors

    def total(self) -> int:
        """Count the requests."""
        return sum(1 for _ in self._raw_lines())

    def lines(self) -> Iterator[Line]:
        """Read the requests of a validated input."""
        for number, raw in self._raw_lines():
            request = parse(raw, DECISIONS)  # the widest limits, as it was looked at before
            yield Line(number, request["custom_id"], request["body"], len(raw))

    def resume(self) -> Progress:
        """Find out what is done already."""
        progress = Progress()
        for path, succeeded in ((self.output, True), (self.errors, False)):
            for line in _whole_lines(path):
                progress.add(Outcome(succeeded, orjson.loads(line)))
        return progress

    def append(self, outcomes: list[Outcome]) -> None:
        """Add to the answers; they are on the disk when this returns."""
        for path, succeeded in ((self.output, True), (self.errors, False)):
            lines = [orjson.dumps(outcome.wire) + b"\n" for outcome in outcomes if outcome.succeeded == succeeded]
            if lines:
                append(path, b"".join(lines))

    def _raw_lines(self) -> Iterator[tuple[int, bytes]]:
        with self._input.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Read the lines of a journal, after cutting off a last one that was not written to its end."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = 0
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(size)
                return
            size += len(line)
            yield line


def _parsed(number: int, raw: bytes, endpoint: str) -> Line | dict[str, Any]:
    """Return the request on a line, or what is wrong with it; its body is looked at when it is answered."""
    if len(raw) > MAX_LINE_BYTES:
        return _error("line_too_long", f"This line is longer than {MAX_LINE_BYTES >> 20} MB.", None, number)
    try:
        request = parse(raw, limits_of(endpoint))
    except BodyShapeError as error:
        return _error(error.code, str(error), None, number)
    except orjson.JSONDecodeError as error:
        return _error("invalid_json_line", f"This line is not JSON: {error}.", None, number)
    if not isinstance(request, dict):
        return _error("invalid_request", "Each line must be a JSON object.", None, number)
    problem = _wrong(request, number, endpoint)
    return problem or Line(number, request["custom_id"], request["body"], len(raw))


def _wrong(request: dict[str, Any], number: int, endpoint: str) -> dict[str, Any] | None:
    for name, expected in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if name not in request:
            return _error("missing_required_parameter", f"Missing required parameter: '{name}'.", name, number)
        if not isinstance(request[name], expected):
            kind = "a string" if expected is str else "an object"
            return _error("invalid_type", f"Invalid type for '{name}': expected {kind}.", name, number)
    if not 0 < len(request["custom_id"]) <= MAX_CUSTOM_ID:
        message = f"The custom_id must have 1 to {MAX_CUSTOM_ID} characters."
        return _error("invalid_custom_id", message, "custom_id", number)
    if request["method"] != "POST":
        return _error("invalid_method", "The method must be 'POST'.", "method", number)
    if request["url"] != endpoint:
        return _error("invalid_url", f"The url must be the batch's endpoint, '{endpoint}'.", "url", number)
    return None


def _error(code: str, message: str, param: str | None = None, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}
