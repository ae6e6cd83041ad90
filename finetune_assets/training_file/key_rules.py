"""The rules for keys: those that the format does not know, that hold null, or of which parsers keep one of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune_assets.dataset.json_lines import MAX_DEPTH, number_of_keys, repeated_keys, told_twice
from finetune_assets.training_file.findings import Problem


def given_keys(where: str, value: dict[str, Any], found: list[Problem], but: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of an object that hold something. Null is noted, but for the keys that may hold it."""
    if None not in value.values():
        return value
    found += [("null_key", f"{where}.{key}") for key, held in value.items() if held is None and key not in but]
    return {key: held for key, held in value.items() if held is not None}


def check_keys(where: str, value: dict[str, Any], known: set[str] | frozenset[str], found: list[Problem]) -> None:
    """Warn of the keys of an object that the format does not know; `where` ends with a dot, or is empty."""
    for key in value:
        if key not in known:
            found.append(("unknown_key", f"{where}{key} is not part of the format; providers refuse or ignore it"))


def check_repeated_keys(line: bytes, example: dict[str, Any], found: list[Problem]) -> bool:
    """Report the keys that stand twice in an object of a line, which was parsed to `example`.

    A line with as many `":` as its objects have keys repeats none, unless it also puts a space before a colon.

    Returns:
        Whether the line can be looked at further, which one that is nested too deep cannot.
    """
    messages, colons = example.get("messages"), line.count(b'":')
    # Most lines hold messages of two keys and nothing else.
    if type(messages) is list and colons == 1 + 2 * len(messages):
        return True
    n_keys = number_of_keys(example)
    if n_keys is None:
        message = f"its lists and objects stand more than {MAX_DEPTH} deep in each other; write them flatter"
        found.append(("nested_too_deep", message))
        return False
    for key in [] if colons == n_keys else repeated_keys(line):
        found.append(("duplicate_key", told_twice(key)))
    return True
