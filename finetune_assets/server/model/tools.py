"""Functions that may be called, as chat templates are given them: the same in training as when a model is asked."""

from __future__ import annotations

from typing import Any

_SHOWN = ("name", "description", "parameters")
_MAY_BE_NULL = frozenset({"const", "default", "example", "examples"})
"""Keywords of a schema whose null means something."""


def tools_of(declared: dict[str, Any]) -> list[dict[str, Any]] | None:
    """What a request or an example declares, in `tools` or the older `functions`; None where that is nothing.

    A key that holds null counts as absent, and `strict` is nothing that a model is told.
    """
    functions = [tool["function"] for tool in declared.get("tools") or ()] + (declared.get("functions") or [])
    shown = [{key: _without_nulls(function[key]) for key in _SHOWN if function.get(key) is not None}
             for function in functions]  # fmt: skip
    return [{"type": "function", "function": function} for function in shown] or None


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: held if key in _MAY_BE_NULL else _without_nulls(held)
                for key, held in value.items()
                if held is not None or key in _MAY_BE_NULL
            }
        case _:
            return value
