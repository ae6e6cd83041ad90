"""How much a JSON body may hold: looked at in its bytes, before it is parsed.

A few megabytes of brackets become gigabytes of objects, and each wrong item of a list an error of its own. So values
and depth are counted first, piece by piece so that other requests are answered meanwhile, and counting stops at the
limit.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any

import orjson

from finetune_assets.errors import FinetuneAssetsError

_TOKEN = re.compile(rb'["\[{,\]}]')
"""What begins a string, or begins, separates or ends values."""


_ESCAPES = re.compile(rb'(?:\\.[^"\\]{0,32}+){1,1000}+', re.DOTALL)
"""Escapes that follow each other closely, no more than are quickly passed over."""
_QUOTE = ord('"')
_LARGE_BODY, _PIECE, _LONG_STRING = 1 << 20, 1 << 20, 512
"""Bytes."""
_BETWEEN_CHARACTERS = re.compile(rb"[^\\]{12}(?=[^\x80-\xbf])")
"""Ends where a string may be cut: within no character of several bytes, and no pair of escapes."""


class BodyShapeError(FinetuneAssetsError, ValueError):
    """A body holds more than its route takes. `code` is for programs."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a route takes at most."""

    bytes: int
    values: int
    """Items of all lists and members of all objects together."""
    members: int
    """Members of one object."""
    depth: int
    """Lists and objects inside each other."""


ASKING: tuple[str, ...] = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/decisions", "/v1/systemone",
)  # fmt: skip
"""Where models are asked."""
CHAT = BodyLimits(bytes=64 << 20, values=50_000, members=1100, depth=64)
"""Conversations: up to 500 images, and schemas of thousands of properties."""
DECISIONS = BodyLimits(bytes=64 << 20, values=500_000, members=10_000, depth=64)
"""400 questions of 255 described options, and JSON of 10,000 values."""
OTHER = BodyLimits(bytes=1 << 20, values=10_000, members=100, depth=32)
_LIMITS = dict.fromkeys(ASKING, CHAT) | {"/v1/decisions": DECISIONS, "/v1/systemone": DECISIONS}


_AZURE = re.compile(r"/openai/(?:v1/|deployments/[^/]+/)?")
"""How Azure's addresses begin: those of its v1 API, and the older ones of the SDK's `AzureOpenAI`."""


def openai_path(path: str) -> str:
    """Return OpenAI's path for one that may be Azure's."""
    azure = _AZURE.match(path)
    return f"/v1/{path[azure.end() :]}" if azure else path


def limits_of(path: str) -> BodyLimits:
    """Say what a route takes."""
    return _LIMITS.get(path, OTHER)


def parse(body: bytes, limits: BodyLimits) -> Any:
    """Parse JSON in UTF-8 that keeps to the limits.

    Raises:
        BodyShapeError: it does not.
        json.JSONDecodeError: it is not JSON. Python's own parser would take lone surrogates, which can be neither
            stored nor sent back.
    """
    long_strings = check(body, limits)
    if len(body) < _LARGE_BODY or not long_strings:
        return orjson.loads(body)
    return _parse_in_pieces(body, long_strings)


def check(body: bytes, limits: BodyLimits) -> list[tuple[int, int]]:
    """Count values and depth, and return where long strings begin and end.

    Raises:
        BodyShapeError: there is more than the limits allow.
    """
    values, place = 0, 0
    long_strings: list[tuple[int, int]] = []
    members: list[int] = []
    """Of each object that is open, how many there are so far; of a list, less than none."""
    while token := _TOKEN.search(body, place):
        place, sign = token.end(), body[token.start()]
        if sign == _QUOTE:
            begin, place = place - 1, _end_of_string(body, place)
            if place - begin > _LONG_STRING:
                long_strings.append((begin, place))
            continue
        if sign in b"[{":
            members.append(1 if sign in b"{" else -limits.values)
        elif sign in b"]}":
            del members[-1:]
            continue
        elif members:
            members[-1] += 1
        values += 1
        if len(members) > limits.depth:
            message = f"The body of the request is nested more than {limits.depth} levels deep. Make it flatter."
            raise BodyShapeError(message, "body_too_deep")
        if values > limits.values or (members and members[-1] > limits.members):
            what = f"{limits.values:,} values, or an object in it more than {limits.members:,}"
            message = f"The body of the request holds more than {what}. Send it in several requests."
            raise BodyShapeError(message, "body_too_long")
    return long_strings


def _parse_in_pieces(body: bytes, long_strings: list[tuple[int, int]]) -> Any:
    """Parse what is left when each long string is a short one, and put them back.

    No thread goes on while a parser is at work: 0.15 seconds for 60 MB at once.
    """
    mark = secrets.token_hex(16)
    pieces: list[bytes] = []
    done = 0
    for number, (begin, end) in enumerate(long_strings):
        pieces += [body[done:begin], f'"{mark}{number}"'.encode()]
        done = end
    parsed = orjson.loads(b"".join([*pieces, body[done:]]))
    return _with_texts(parsed, mark, [_text(body, begin, end) for begin, end in long_strings])


def _text(body: bytes, begin: int, end: int) -> str:
    parts: list[str] = []
    place = begin + 1
    while end - place > 2 * _PIECE and (cut := _BETWEEN_CHARACTERS.search(body, place + _PIECE, place + 2 * _PIECE)):
        parts.append(orjson.loads(b'"%b"' % body[place : cut.end()]))
        place = cut.end()
    return "".join([*parts, orjson.loads(b'"%b' % body[place:end])])


def _with_texts(value: Any, mark: str, texts: list[str]) -> Any:
    match value:
        case str() if value.startswith(mark):
            return texts[int(value[len(mark) :])]
        case list():
            return [_with_texts(item, mark, texts) for item in value]
        case dict():
            return {_with_texts(key, mark, texts): _with_texts(item, mark, texts) for key, item in value.items()}
    return value


def _end_of_string(body: bytes, start: int) -> int:
    """Return where a string ends whose characters begin at `start`, though it be cut short; in linear time."""
    place, quote = start, -1
    while True:
        if quote < place and (quote := body.find(b'"', place)) < 0:
            return len(body)
        escape = body.find(b"\\", place, quote)
        if escape < 0:
            return quote + 1
        escapes = _ESCAPES.match(body, escape)
        if escapes is None:  # nothing comes after the backslash
            return len(body)
        place = escapes.end()
