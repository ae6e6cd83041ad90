"""JSON Lines from strangers: each line is an object or a named problem, and one bad line never hides the others."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson

from finetune_assets.errors import TrainingFileError

if TYPE_CHECKING:
    from upath import UPath

MAX_LINE_BYTES = 256 * 1024 * 1024
"""Longest line that is read: ten inlined images of 10 MiB are 134 MiB; more is not an example but an attack."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_DEPTH = 100
"""Objects and lists in each other. Real examples reach a dozen; what looks at them goes down by itself, level by level,
and Python ends that at some 1,000 steps."""
_NO_JSON = re.compile(r"-?(?:NaN|nan|Infinity|inf)\b|\b(?:None|True|False|undefined)\b")
_QUOTES = "\u2018\u2019\u201a\u201c\u201d\u201e\u2033\u00ab\u00bb\u300c\u300d\uff02"
_SUGGESTED = {"None": "null", "True": "true", "False": "false"}
_DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}


@dataclass(frozen=True, slots=True)
class JsonProblem:
    """Why a line is not a JSON object.

    `code` is one of invalid_json, duplicate_key, invalid_encoding, not_an_object, blank_line, line_too_long;
    `message` says what was found and what to do.
    """

    code: str
    message: str


def lines(path: str | Path | UPath) -> Iterator[tuple[int, dict[str, Any] | JsonProblem]]:
    """Stream each line's number, from 1, with its object or its problem. Nothing in the contents raises.

    Raises:
        OSError: the file cannot be opened.
    """
    # It takes longer to load than a small file takes to be validated, and validation does not need it.
    import jsonlines

    with opened(path) as file:
        reader = jsonlines.Reader(raw_lines(file), loads=loaded)  # pyright: ignore[reportCallIssue]
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


def opened(path: str | Path | UPath) -> BinaryIO:
    """Open a local file, or one at an fsspec address, for reading.

    Raises:
        OSError: it cannot be opened.
        TrainingFileError: nothing that is installed reads such addresses, or the store refuses.
    """
    if "://" not in str(path):
        return Path(str(path)).open("rb")
    # fsspec takes as long to load as 100,000 lines take to be checked.
    from upath import UPath

    scheme = str(path).partition("://")[0]
    try:
        file = UPath(path).open("rb")
    except ImportError as error:
        driver = _DRIVERS.get(scheme, f"an fsspec driver for {scheme}")
        told = f"{path}: reading {scheme}:// needs {driver}, which is not installed; run: pip install {driver}"
        raise TrainingFileError(told) from error
    except Exception as error:
        if isinstance(error, OSError):
            raise
        # Drivers raise what the libraries of their stores do.
        raise TrainingFileError(f"{path}: cannot be read: {error}") from error
    return file if isinstance(file, io.BufferedIOBase) else cast("BinaryIO", io.BufferedReader(_Unbuffered(file)))


class _Unbuffered(io.RawIOBase):
    """A file of fsspec as the standard library's: not all of them limit the length of the lines they read."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


_NESTING = frozenset((dict, list))


def repeated_keys(data: bytes | str) -> list[str]:
    """List the keys that stand twice in one object of a JSON text."""
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            repeated.extend(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)

    json.loads(data, object_pairs_hook=note)
    return repeated


def told_twice(key: str) -> str:
    """Say what is wrong with a key that stands twice."""
    return f"the key {key[:40]!r} stands twice in one object, and only one of them counts; remove the other"


def number_of_keys(value: Any) -> int | None:
    """Count the keys of all objects in a JSON value; None where these stand more than `MAX_DEPTH` deep.

    A text with as many `":` repeats no key, unless it also puts a space before a colon.
    """
    if type(value) is dict and not any(map(_NESTING.__contains__, map(type, value.values()))):
        return len(value)
    n_keys = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        n_keys += sum([len(each) for each in level if type(each) is dict])
        inner = [item for each in level for item in (each.values() if type(each) is dict else each)]
        level = [item for item in inner if type(item) in _NESTING]
        if not level:
            return n_keys
    return None


def loaded(data: bytes | str) -> Any:
    """Parse a JSON text of which no object has a key twice: one of the two values would be lost without a word.

    Raises:
        ValueError: it is no JSON (`orjson.JSONDecodeError`), or a key stands twice; the message says which.
    """
    value = orjson.loads(data)
    colons = data.count(b'":') if isinstance(data, bytes) else data.count('":')
    if type(value) in (dict, list) and number_of_keys(value) not in (None, colons):
        for key in repeated_keys(data):
            raise ValueError(told_twice(key))
    return value


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
        loaded(line)
    except orjson.JSONDecodeError as error:
        return JsonProblem("invalid_json", _wrong_json(text, error))
    except ValueError as error:
        return JsonProblem("duplicate_key", str(error))
    return JsonProblem("invalid_json", "the line cannot be parsed; write one JSON object on the line")


def _wrong_json(text: str, error: orjson.JSONDecodeError) -> str:
    """Name the cause of an error where it is a usual one, else what the parser says of it."""
    at = error.pos
    before, rest = text[:at].rstrip(), text[at:].lstrip()
    near = text[max(0, at - 20) : at + 20].strip()
    if rest.startswith(",") or (before.endswith(",") and rest.startswith(("}", "]"))):
        column = text.index(",", at) if rest.startswith(",") else len(before) - 1
        follows = text[column + 1 :].lstrip()[:1]
        where = f" before {follows}" if follows in ("}", "]") else "" if follows else " after the object"
        return f"there is a comma{where} at column {column + 1}, near {near!r}, too many for JSON; remove it"
    start = at - before.endswith("-")
    if word := _NO_JSON.match(text[start:].lstrip()):
        instead = _SUGGESTED.get(word[0], "null, or leave the key out")
        return f"{word[0]} at column {start + 1}, near {near!r}, is no JSON; write {instead}"
    if rest[:1] and rest[0] in _QUOTES:
        return f'the quote {rest[0]} at column {at + 1}, near {near!r}, is none of JSON; write the straight "'
    if rest.startswith("'"):
        told = f"the quote ' at column {at + 1}, near {near!r}, is none of JSON"
        return f'{told}; write ", which json.dumps does and str does not'
    if rest.startswith("{") and before.endswith("}"):
        return f"a second object begins at column {at + 1}, near {near!r}; write each on a line of its own"
    hint = "the line seems cut off" if at >= len(text.rstrip()) else "write one JSON object on the line"
    return f"{error.msg} at column {at + 1}, near {near!r}; {hint}"


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
