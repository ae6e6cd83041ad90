"""The rules for keys: those that the format does not know, and those of which parsers silently keep one of two."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from finetune_assets.training_file.findings import Problem


def check_keys(where: str, value: dict[str, Any], known: set[str] | frozenset[str], found: list[Problem]) -> None:
    """Warn of the keys of an object that the format does not know; `where` ends with a dot, or is empty."""
    for key in value:
        if key not in known:
            found.append(("unknown_key", f"{where}{key} is not part of the format; providers refuse or ignore it"))


def check_repeated_keys(line: bytes, example: dict[str, Any], found: list[Problem]) -> None:
    """Report the keys that stand twice in an object of a line, which was parsed to `example`.

    A line with as many `":` as its objects have keys repeats none, unless it also puts a space before a colon.
    """
    messages, colons = example.get("messages"), line.count(b'":')
    # Most lines hold messages of two keys and nothing else.
    if (type(messages) is list and colons == 1 + 2 * len(messages)) or colons == _n_keys(example):
        return
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        repeated.extend(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)

    json.loads(line, object_pairs_hook=note)
    for key in repeated:
        message = f"the key {key[:40]!r} stands twice in one object, and only one of them counts; remove the other"
        found.append(("duplicate_key", message))


def _n_keys(value: dict[str, Any] | list[Any]) -> int:
    own, inner = (0, value) if isinstance(value, list) else (len(value), value.values())
    return own + sum([_n_keys(item) for item in inner if isinstance(item, (dict, list))])
