"""How much a JSON body may hold: looked at in its bytes, before it is parsed.

A few megabytes of brackets become gigabytes of objects, and each wrong item of a list an error of its own. So values
and depth are counted first, piece by piece so that other requests are answered meanwhile, and counting stops at the
limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from finetune_assets.errors import FinetuneAssetsError

_TOKEN = re.compile(rb'["\[{,\]}]')
"""What begins a string, or begins, separates or ends values."""


_ESCAPES = re.compile(rb'(?:\\.[^"\\]{0,32}+){1,1000}+', re.DOTALL)
"""Escapes that follow each other closely, no more than are quickly passed over."""
_QUOTE = ord('"')


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


ASKING: tuple[str, ...] = ("/v1/chat/completions", "/v1/completions", "/v1/decisions", "/v1/systemone")
"""Where models are asked."""
CHAT = BodyLimits(bytes=64 << 20, values=50_000, members=1100, depth=64)
"""Conversations: up to 500 images, and schemas of thousands of properties."""
DECISIONS = BodyLimits(bytes=64 << 20, values=500_000, members=10_000, depth=64)
"""400 questions of 255 described options, and JSON of 10,000 values."""
OTHER = BodyLimits(bytes=1 << 20, values=10_000, members=100, depth=32)
_LIMITS = dict.fromkeys(ASKING, CHAT) | {"/v1/decisions": DECISIONS, "/v1/systemone": DECISIONS}


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
    check(body, limits)
    return orjson.loads(body)


def check(body: bytes, limits: BodyLimits) -> None:
    """Count values and depth.

    Raises:
        BodyShapeError: there is more than the limits allow.
    """
    values, place = 0, 0
    members: list[int] = []
    """Of each object that is open, how many there are so far; of a list, less than none."""
    while token := _TOKEN.search(body, place):
        place, sign = token.end(), body[token.start()]
        if sign == _QUOTE:
            place = _end_of_string(body, place)
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
