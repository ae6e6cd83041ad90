"""How a column writes its numbers, and one cell read by it: the whole cell, or nothing."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from finetune_assets.dataset.answer_reading.lexicon import BOUND, DOUBT, HEDGE, NEGATION
from finetune_assets.dataset.answer_reading.plain import is_plain_amount

PLAIN_SIGNS = str.maketrans(
    dict.fromkeys("\u2212\u2013\ufe63\uff0d", "-")
    | dict(zip("\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff0e", "0123456789.", strict=True))
)
"""Signs of numbers that have several forms, to the plain one of as many characters."""
SCALES = {
    "dozen": 12.0,
    "hundred": 1e2,
    **dict.fromkeys(("k", "thousand", "tausend", "tsd", "mil"), 1e3),
    "lakh": 1e5,
    **dict.fromkeys(("million", "millions", "millionen", "mio", "mn", "millones"), 1e6),
    "crore": 1e7,
    **dict.fromkeys(("billion", "billions", "bn", "milliarde", "milliarden", "mrd", "milliard", "milliards"), 1e9),
    "trillion": 1e12,
}
"""What a word after a number multiplies it by. `K` is a kelvin and `m` a metre as often, so they are no such words."""
SCALE = rf"(?P<scale>k|(?i:{'|'.join(sorted(SCALES.keys() - {'k'}, key=len, reverse=True))}))\b"
EXPONENT = r"[eE][-+]?\d{1,4}(?!\d)"
_SPACES = {" ": r"[ \u00a0\u2009\u202f]", "'": r"['\u2019]", "": ""}
# A currency or a word before the number; a unit (kg, %, m/s, °C, EUR) after it.
_BEFORE = r"(?:[^\W\d_]{1,20}\.?\s?)?[$€£¥₹]?\s?"
# 10³ is a power, and `5-` is -5 in some books and 5 or less in others.
_NO_POWER = r"(?!\s?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b^]|-(?:\s|$)))"
_AFTER = r"[\s$€£¥₹%‰°µ/·^\w²³.⁻¹-]{0,40}"


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """The one way in which a column writes its numbers.

    Raises:
        ValueError: both signs are the same, or no sign that numbers are written with.
    """

    decimal: Literal[".", ","]
    thousands: str = ""
    """What groups three digits: a comma, a point, an apostrophe or a space of any width; "" where nothing does."""

    def __post_init__(self) -> None:
        if self.decimal not in (".", ",") or self.thousands not in ("", ",", ".", "'", " "):
            raise ValueError(f"decimal must be . or , and thousands one of , . ' or a space, got {self}")
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands must differ, both are {self.decimal!r}")


WAYS_OF_WRITING = (NumberFormat("."), NumberFormat(".", ","), NumberFormat(","), NumberFormat(",", "."))
"""Of numbers, the plainest first; which of them a column has is decided when it is read."""


@dataclass(frozen=True, slots=True)
class ScaledNumber:
    """A number as it was written: `1.2 million` is 1.2 with the scale 1e6."""

    written: float
    scale: float | None = None
    """None where no word multiplies it."""

    @property
    def value(self) -> float:
        """The number that is meant."""
        # 1.1 million is 1100000, not 1100000.0000000002.
        return self.written if self.scale is None else float(f"{self.written * self.scale:.15g}")

    def in_unit(self, unit: float | None) -> float:
        """Return the number in a unit such as thousands (1e3): 1.2 million are 1200; without a scale it is in it."""
        if self.scale is None or self.scale == unit:
            return self.written
        if unit is None:
            return self.value
        return float(f"{self.written * self.scale / unit:.15g}")


def parse_number(text: str, number_format: NumberFormat) -> float | None:
    """Return the number that the whole cell is, such as 1234.5 of `1.234,50 €`; None where it is none in this format.

    A currency or word may stand before it and a unit after it. `1.2 million` is 1200000. Thousands are grouped
    throughout or not at all.
    """
    found = scaled_number(text, number_format)
    return None if found is None else found.value


def scaled_number(text: str, number_format: NumberFormat) -> ScaledNumber | None:
    """Return what `parse_number` reads, with the word that multiplies it."""
    if _plain(number_format.decimal).fullmatch(text):
        return ScaledNumber(float(text.replace(number_format.decimal, ".")))
    match = _cell(number_format).fullmatch(text.strip().translate(PLAIN_SIGNS))
    if match is None or re.search(r"\d", _without_powers(match["unit"])) or _is_open(match["before"], match["unit"]):
        return None
    digits = re.sub(_thousands(number_format), "", match["digits"]) if number_format.thousands else match["digits"]
    value = float(digits.replace(number_format.decimal, ".") + (match["exponent"] or ""))
    scale = SCALES[match["scale"].casefold()] if match["scale"] else None
    if not math.isfinite(value * (scale or 1)):
        return None
    return ScaledNumber(-value if "-" in match["sign"] + match["sign_after"] else value, scale)


def _is_open(before: str, unit: str) -> bool:
    """Return whether what stands around the number negates it or makes it a limit, or may: `not 5`, `over 5`."""
    # `CHF` and `No.` are written so; of any other word nobody knows what it does to the number.
    if not before.strip().isupper() and not is_plain_amount(before.lower()):
        return True
    said = f"{before} \0 {unit}".lower()
    return any(pattern.search(said) for pattern in (NEGATION, DOUBT, HEDGE, BOUND))


def _without_powers(unit: str) -> str:
    return re.sub(r"(?<=[^\W\d_])\^?-?[1-4]\b", "", unit)


def _thousands(number_format: NumberFormat) -> str:
    """Build the pattern of the sign that groups digits; "" where none does."""
    return _SPACES.get(number_format.thousands) or re.escape(number_format.thousands)


def grouped_digits(sign: str) -> str:
    """Build the pattern of digits that a sign groups: by three, or as in India by two above the last three."""
    return rf"[1-9]\d{{0,2}}(?:{sign}\d{{3}})+|[1-9]\d?(?:{sign}\d{{2}})+{sign}\d{{3}}"


@lru_cache(maxsize=2)
def _plain(decimal: str) -> re.Pattern[str]:
    """Build the pattern of what most cells are: digits alone, or with the decimal sign among them."""
    return re.compile(rf"-?\d{{1,15}}(?:{re.escape(decimal)}\d{{1,15}})?", re.ASCII)


@lru_cache(maxsize=32)
def _cell(number_format: NumberFormat) -> re.Pattern[str]:
    point = re.escape(number_format.decimal)
    grouped = f"{grouped_digits(_thousands(number_format))}|" if number_format.thousands else ""
    digits = rf"(?P<digits>(?:{grouped}\d+)(?:{point}\d+)?|{point}\d+)"
    signs = rf"(?P<sign>[-+]?)(?P<before>{_BEFORE})(?P<sign_after>[-+]?)"
    return re.compile(
        rf"{signs}{digits}(?P<exponent>{EXPONENT})?(?![\d.,']\d){_NO_POWER}(?:\s?{SCALE})?(?P<unit>{_AFTER})"
    )
