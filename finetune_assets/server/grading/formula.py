"""What several graders' rewards come to: arithmetic, read here and never run as code."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_assets.errors import GraderError

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": min, "max": max, "abs": abs, "floor": lambda x: float(math.floor(x)),
    "ceil": lambda x: float(math.ceil(x)), "exp": math.exp, "sqrt": math.sqrt, "log": math.log,
}  # fmt: skip
"""Floats from floats: integers would grow without end."""
_OF_SEVERAL = ("min", "max")
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|([-+*/^(),]))", re.ASCII)
_DEEPEST = 30
_LONGEST = 4096
_OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
Compute = Callable[[Mapping[str, float]], float]


class Formula:
    """`+ - * / ^`, brackets, numbers, names, and the functions of `FUNCTIONS`.

    `^` binds closest, from the right (`2^3^2` is 512), closer than a sign before it (`-2^2` is -4).

    Raises:
        GraderError: it is something else, or a name is none of `names`.
    """

    def __init__(self, text: str, names: list[str]) -> None:
        if len(text) > _LONGEST:
            raise GraderError(f"the formula has {len(text):,} characters, more than {_LONGEST:,}")
        self._compute = _Reader(text, names).whole()

    def value(self, rewards: Mapping[str, float]) -> float:
        """Compute it.

        Raises:
            ArithmeticError: it has no finite value, as where it divides by zero.
        """
        try:
            found = self._compute(rewards)
        except ValueError as error:  # math's word for the root of a negative number
            raise ArithmeticError(str(error)) from error
        if not math.isfinite(found):
            raise ArithmeticError("the formula has no finite value")
        return float(found)


@dataclass
class _Reader:
    """Recursive descent: a sum of products of signed powers."""

    text: str
    names: list[str]
    place: int = 0
    depth: int = 0

    def whole(self) -> Compute:
        found = self._sum()
        if self.text[self.place :].strip():
            raise self._wrong("is not understood")
        return found

    def _sum(self) -> Compute:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise GraderError(f"the formula is nested more than {_DEEPEST} levels deep")
        found = self._chain("+-", self._product)
        self.depth -= 1
        return found

    def _product(self) -> Compute:
        return self._chain("*/", self._signed)

    def _chain(self, signs: str, operand: Callable[[], Compute]) -> Compute:
        """Operands with these signs between them, from the left; a loop, as there may be thousands."""
        first, others = operand(), []
        while sign := self._taken(signs):
            others.append((_OPERATORS[sign], operand()))
        if not others:
            return first

        def compute(rewards: Mapping[str, float]) -> float:
            found = first(rewards)
            for join, other in others:
                found = join(found, other(rewards))
            return found

        return compute

    def _signed(self) -> Compute:
        negative = False
        while sign := self._taken("+-"):
            negative ^= sign == "-"
        found = self._power()
        return (lambda rewards: -found(rewards)) if negative else found

    def _power(self) -> Compute:
        base = self._atom()
        if not self._taken("^"):
            return base
        self.depth += 1
        if self.depth > _DEEPEST:
            raise GraderError(f"the formula is nested more than {_DEEPEST} levels deep")
        exponent = self._signed()  # from the right, and with a sign of its own
        self.depth -= 1
        return lambda rewards: _raised(base(rewards), exponent(rewards))

    def _atom(self) -> Compute:
        token = _TOKEN.match(self.text, self.place)
        if token is None or (token[3] and token[3] != "("):
            raise self._wrong("is not understood where a number, a name or '(' should be")
        before, self.place = self.place, token.end()
        if token[1]:
            number = float(token[1])
            return lambda _rewards: number
        if token[3]:
            found = self._sum()
            self._close()
            return found
        if token[2] in FUNCTIONS and self._taken("("):
            return self._call(token[2])
        if token[2] not in self.names:
            self.place = before
            raise self._wrong(f"begins with no grader's name ({', '.join(self.names)}) and no function")
        return lambda rewards: rewards[token[2]]

    def _call(self, name: str) -> Compute:
        given = [self._sum()]
        while self._taken(","):
            given.append(self._sum())
        self._close()
        if (name in _OF_SEVERAL) == (len(given) == 1):
            raise GraderError(f"{name} takes {'several values' if name in _OF_SEVERAL else 'one value'} in a formula")
        function: Any = FUNCTIONS[name]
        return lambda rewards: function(*(each(rewards) for each in given))

    def _close(self) -> None:
        if not self._taken(")"):
            raise self._wrong("should begin with ')'")

    def _taken(self, signs: str) -> str:
        """The next sign, if it is one of these."""
        token = _TOKEN.match(self.text, self.place)
        if token is None or not token[3] or token[3] not in signs:
            return ""
        self.place = token.end()
        return token[3]

    def _wrong(self, what: str) -> GraderError:
        rest = self.text[self.place :].strip()
        return GraderError(f"{rest[:40]!r} in the formula {what}" if rest else "the formula ends too early")


def _raised(base: float, exponent: float) -> float:
    found: Any = base**exponent
    if isinstance(found, complex):
        raise ArithmeticError("a negative number has no such power")
    return found
