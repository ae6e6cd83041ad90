"""Which number a free text answers with.

Certain is a number written as the task's template says; one that the text announces (`The answer is`, `####`, a final
`= 20`); and the only one it holds, where it is no limit, no end of a range, not negated and not doubted. Groups of
three digits after a comma, an apostrophe or a narrow space are thousands; any other comma is a decimal one (`12,5`). A
percent sign changes nothing: `12 %` is 12.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from finetune_assets.dataset.answer_reading.answer_text import Span
from finetune_assets.dataset.answer_reading.cues import SOMEBODY_ELSE_S, STRONG, announced
from finetune_assets.dataset.answer_reading.lexicon import BOUND
from finetune_assets.dataset.answer_reading.number_format import EXPONENT, PLAIN_SIGNS, SCALE, SCALES, ScaledNumber
from finetune_assets.dataset.answer_reading.plain import is_plain_amount
from finetune_assets.dataset.answer_reading.sentences import Sentence, blank, doubted, hedged, negated
from finetune_assets.dataset.answer_reading.units import are_different, unit_between

_SPACES = "['\u2019\u00a0\u2009\u202f]"
_CURRENCY = r"(?:[$€£¥₹]|(?<![^\W_])(?:USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|US\$|Rs\.?))"
_COMMA_GROUPS = r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d+)?"
_DIGITS = (
    # 1,234,567.89 and 1'234'567.89 and 1.234.567,89, then anything else; 0,125 has a decimal comma, not a thousand.
    rf"{_COMMA_GROUPS}"
    rf"|[1-9]\d{{0,2}}(?:{_SPACES}\d{{3}})+(?!\d)(?:[.,]\d+)?"
    r"|[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})(?!\d)"
    r"|\d+(?:[.,]\d+)?|\.\d+"
)
_NUMBER = re.compile(
    # Plain spaces group digits beside a currency only: `5 100` may be two numbers.
    rf"(?P<digits>(?<=\$)[1-9]\d{{0,2}}(?: \d{{3}})+(?!\d)(?:[.,]\d+)?"
    rf"|(?<=[A-Z€£¥₹] )[1-9]\d{{0,2}}(?: \d{{3}})+(?!\d)(?:[.,]\d+)?"
    rf"|[1-9]\d{{0,2}}(?: \d{{3}})+(?!\d)(?:[.,]\d+)?(?=\s?{_CURRENCY})"
    rf"|{_DIGITS})"
    rf"(?P<exponent>{EXPONENT}|\s?(?:[x×*·]|\\times|\\cdot)\s?10"
    r"(?:\^\{?(?P<power>[-+]?\d{1,3})\}?|(?P<raised>[⁻⁺]?[⁰¹²³⁴-⁹]{1,3})))?"
    rf"(?:\s?{SCALE})?"
)
_RAISED = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "-+0123456789")
# A minus that follows a letter, a digit or a bracket is a hyphen.
_SIGN = re.compile(
    rf"(?:(?:(?<=^)|(?<=[\s(=:*_`\"'{{\[~≈$€£¥₹]))-(?:{_CURRENCY}\s?)?|{_CURRENCY}\s?-"
    rf"|(?i:(?<!\w)(?:minus|negative|moins|menos|meno)\s+){_CURRENCY}?\s?)$"
)
_NAME = re.compile(r"[^\W\d_\u3040-\u9fff\uac00-\ud7af][-_\u2010\u2011]?$|_$")
_UNCLEAR_BEFORE = re.compile(r"(?:--|[-+/^]\s*|\d[.,:/]?)$")
_UNCLEAR_AFTER = re.compile(
    r"\s?(?:\^|\*\*|[⁰¹²³⁴-⁹]|\+(?!\w)|[-/:]\d|-\s*(?:$|[),;\]])|st\b|nd\b|rd\b|th\b)|[^\W\d_]+\d"
)
_TO_THE_END = re.compile(r"[\s%°$€£¥*_`)\]}.!]*(?:[^\W\d_]{1,12}[\s*_`)\]}.!]*)?$")
_BEFORE_CUED = re.compile(rf"(?:{_CURRENCY}|about|around|approximately|roughly|[~≈\s*_$\\({{-])*$", re.IGNORECASE)


_NEAR = 40
"""Characters around a number among which its unit is looked for."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number at a place of a text."""

    place: Span
    """With its sign, without currency and unit."""
    number: ScaledNumber
    clear: bool
    """False for a power, an ordinal, a part of a fraction or a date, a limit such as `5+`."""


def read_in_text(text: str, template: str) -> Number | None:
    """Return the place of the number that a text answers with, or None where that is not certain."""
    text = text.translate(PLAIN_SIGNS)
    found = list(numbers_in(text))
    if not found:
        return None
    if len(found) == 1 and found[0].clear and _template(template).fullmatch(_around(text, found[0])):
        return found[0]
    folded = text.lower() if len(text.lower()) == len(text) else text
    blanked = blank(folded, [each.place for each in found])
    if doubted(blanked):
        return None
    cued = (
        [each for each in found if _is_cued(folded, each)] or _as_written(text, found, template) or _result(text, found)
    )
    if cued:
        return _agreed(blanked, found, cued)
    return _only(blanked, found)


def only_number(text: str) -> float | None:
    """Return the one number of a text as it is written, whatever is said of it; None where it has none or several."""
    found = list(numbers_in(text.translate(PLAIN_SIGNS)))
    return found[0].number.written if len(found) == 1 and found[0].clear else None


def unit_said(text: str) -> str | None:
    """Return the unit of measure of the only number of a text; None where it has none, or several numbers."""
    text = text.translate(PLAIN_SIGNS)
    found = list(numbers_in(text))
    return unit_beside(text, found[0].place) if len(found) == 1 else None


def differing_unit(text: str, template: str) -> bool:
    """Whether the only number of a text is of another unit than the task's template has."""
    wanted = unit_of(template)
    return wanted is not None and are_different(unit_said(text), wanted)


def unit_beside(text: str, place: Span) -> str | None:
    """Return the unit of measure of a number at a place of a text; None where none is known."""
    return unit_between(text[max(0, place.start - _NEAR) : place.start], text[place.end : place.end + _NEAR])


def unit_of(template: str) -> str | None:
    """Return the unit in which the task's template has its number (`{} years`, `${}`), or None."""
    before, _, after = template.partition("{}")
    return unit_between(before, re.sub(rf"^\s?{SCALE}", "", after))


def unit_scale(template: str) -> float | None:
    """Return what the task's template multiplies its number by (`${} thousand`), or None."""
    match = re.match(rf"\s?{SCALE}", template.partition("{}")[2])
    return SCALES[match["scale"].casefold()] if match else None


def numbers_in(text: str) -> Iterator[Number]:
    """Yield the numbers of a text whose minus signs are hyphens; digits within a name (`CO2`, `A-5`) are none."""
    for match in _NUMBER.finditer(text):
        start, end = match.start(), match.end()
        before = text[max(0, start - 16) : start]
        currency = re.search(rf"{_CURRENCY}\s?$", before)
        if _NAME.search(before) and currency is None:
            continue
        sign = _SIGN.search(before)
        begin = start - len(before) + sign.start() if sign else start
        value = _value(match)
        if not math.isfinite(value):
            continue
        scale = SCALES[match["scale"].casefold()] if match["scale"] else None
        alone = sign is not None or not _UNCLEAR_BEFORE.search(before)
        clear = alone and not _UNCLEAR_AFTER.match(text, end)
        yield Number(Span(begin, end), ScaledNumber(-value if sign else value, scale), clear)


def _value(match: re.Match[str]) -> float:
    digits = _with_decimal_point(match["digits"])
    power = match["power"] or (match["raised"] or "").translate(_RAISED)
    return float(f"{digits}e{power}" if power else digits + (match["exponent"] or ""))


def _with_decimal_point(digits: str) -> str:
    plain = re.sub(rf"{_SPACES}| ", "", digits)
    if re.fullmatch(_COMMA_GROUPS, plain):
        return plain.replace(",", "")
    if plain.count(".") > 1 or ("." in plain and "," in plain):
        plain = plain.replace(".", "")
    return plain.replace(",", ".")


def _around(text: str, each: Number) -> str:
    """Return the text with a `{}` for its number (its scale still there)."""
    end = each.place.end
    if each.number.scale is not None:
        scale = re.search(rf"\s?{SCALE}$", text[:end])
        end = scale.start() if scale else end
    return " ".join(f"{text[: each.place.start]}\0{text[end:]}".split()).casefold()


@lru_cache(maxsize=64)
def _template(template: str) -> re.Pattern[str]:
    # $-5 is how `-5` stands in `${}`.
    words = " ".join(template.replace("{}", "\0").split()).casefold()
    return re.compile(rf"{re.escape(words)}[.!]?")


def _is_cued(folded: str, each: Number) -> bool:
    start = each.place.start
    currency = _BEFORE_CUED.search(folded[max(0, start - 20) : start])
    start -= len(currency[0]) if currency else 0
    return announced(folded, start, STRONG) is not None


def _as_written(text: str, found: list[Number], template: str) -> list[Number]:
    """Return the numbers that stand after the template's own words, where it has words."""
    words = template.partition("{}")[0].rstrip()
    if not re.search(r"[^\W\d_]{2}", words):
        return []
    ends = [match.end() for match in re.finditer(rf"{re.escape(words)}\s*", text, re.IGNORECASE)]
    return [each for each in found if each.place.start in ends]


def _result(text: str, found: list[Number]) -> list[Number]:
    """Return the number after the only equals sign, where it ends the text: `2 + 2 = 4`."""
    last = found[-1]
    sign = re.search(rf"(?<![!<>=~≠])=\s*{_CURRENCY}?\s*$", text[: last.place.start])
    return [last] if sign and text.count("=") == 1 and _TO_THE_END.match(text, last.place.end) else []


def _agreed(blanked: str, found: list[Number], cued: list[Number]) -> Number | None:
    if len({each.number.value for each in cued}) > 1 or not all(each.clear for each in cued):
        return None
    for each in cued:
        sentence = Sentence.around(blanked, each.place)
        begin = max(sentence.span.start, each.place.start - 40)
        foreign = SOMEBODY_ELSE_S.search(blanked, begin, each.place.start)
        later = [o for o in found if each.place.end <= o.place.start < sentence.statement.end and o not in cued]
        if foreign or later or sentence.retracted or _open(blanked, sentence.statement, sentence.clause):
            return None
    return cued[-1]


def _only(blanked: str, found: list[Number]) -> Number | None:
    first, everything = found[0], Span(0, len(blanked))
    if len({each.number.value for each in found}) > 1 or not all(each.clear for each in found):
        return None
    if Sentence.around(blanked, first.place).retracted or _open(blanked, everything, everything):
        return None
    return first if all(_is_plain(blanked, each) for each in found) else None


def _is_plain(blanked: str, each: Number) -> bool:
    return is_plain_amount(blanked[Sentence.around(blanked, each.place).clause.start : each.place.start])


def _open(blanked: str, statement: Span, clause: Span) -> bool:
    return negated(blanked, clause) or hedged(blanked, statement) or BOUND.search(blanked, *clause) is not None
