"""Calls of functions that an answer makes, whole and in pieces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a call."""

    place: int
    """Which of the answer's calls."""
    name: str | None
    """Of the function, in the first piece."""
    arguments: str
    """A piece of JSON."""


@dataclass(slots=True)
class Call:
    """A function that is called."""

    name: str
    arguments: str = ""
    """A JSON object; a part of one in an answer that was cut off."""
