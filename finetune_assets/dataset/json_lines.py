"""JSON Lines from strangers: each line is an object or a named problem, and one bad line never hides the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

if TYPE_CHECKING:
    from upath import UPath

MAX_LINE_BYTES = 256 * 1024 * 1024
"""Longest line that is read: ten inlined images of 10 MiB are 134 MiB; more is not an example but an attack."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class JsonProblem:
    """Why a line is not a JSON object.

    `code` is one of invalid_json, invalid_encoding, not_an_object, blank_line, line_too_long;
    `message` says what was found and what to do.
    """

    code: str
    message: str


def lines(path: str | Path | UPath) -> Iterator[tuple[int, dict[str, Any] | JsonProblem]]:
    """Stream each line's number, from 1, with its object or its problem. Nothing in the contents raises.

    Raises:
        OSError: the file cannot be opened.
    """
    # These take longer to load than a small file takes to be validated, and validation needs neither.
    import jsonlines
    from upath import UPath

    with UPath(path).open("rb") as file:
        reader = jsonlines.Reader(raw_lines(file), loads=orjson.loads)  # pyright: ignore[reportCallIssue]
        number = 0
        while True:
            number += 1
            try:
                value = reader.read(allow_none=True)
            except EOFError:
                return
            except jsonlines.InvalidLineError as error:
                line = error.line if isinstance(error.line, bytes) else error.line.encode()
                yield number, explain(line)
            else:
                yield number, value if type(value) is dict else not_an_object(value)


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """Stream the lines of a binary file; a line above `MAX_LINE_BYTES` is yielded cut off at that size."""
    for line in iter(partial(file.readline, MAX_LINE_BYTES), b""):
        yield line
        rest = line
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)


def explain(line: bytes) -> JsonProblem:
    """Say why `orjson` refuses this line, in words that help to mend it."""
    if not line.strip():
        return JsonProblem("blank_line", "the line is empty; remove it")
    if len(line) >= MAX_LINE_BYTES:
        return JsonProblem("line_too_long", f"the line has over {MAX_LINE_BYTES // 2**20} MiB; split the example")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or line[:2].count(0) == line[2:4].count(0) == 1:
        return JsonProblem("invalid_encoding", "the text looks like UTF-16; save the file as UTF-8")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        return JsonProblem("invalid_encoding", f"{found} is not UTF-8; save the file as UTF-8")
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        near = text[max(0, error.pos - 20) : error.pos + 20].strip()
        hint = "the line seems cut off" if error.pos >= len(text.rstrip()) else "write one JSON object on the line"
        return JsonProblem("invalid_json", f"{error.msg} at column {error.pos + 1}, near {near!r}; {hint}")
    return JsonProblem("invalid_json", "the line cannot be parsed; write one JSON object on the line")


def not_an_object(value: object) -> JsonProblem:
    """Name the problem of a line that holds some other JSON value."""
    return JsonProblem("not_an_object", f"found {kind(value)}; write one JSON object {{...}} on the line")


def kind(value: object) -> str:
    """Describe a JSON value in a few words: `a number (3)`, `a list of 2`, `null`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"a number ({value})"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"
