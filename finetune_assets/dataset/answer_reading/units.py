"""Units of measure beside a number, whichever way they are spelt: `3 weeks` is not 3 where years are asked for."""

from __future__ import annotations

import re
from functools import lru_cache

_UNITS = """
mg; g gram grams; kg kilo kilos; t; oz ounce ounces; lb lbs pound pounds; ng; µg mcg; ct
nm; µm; mm; cm; m; km; in inch inches; ft foot feet; yd; mi mile miles
µl; ml; cl; dl; l liter litre; mmol; mol
ms; s sec secs second seconds sekunde sekunden seconde secondes segundo segundos
min mins minute minutes minuten minuto minutos; h hr hrs hour hours std stunde stunden heure heures hora horas
d day days tag tage tagen jour jours día días dia dias; wk wks week weeks woche wochen semaine semaines semana semanas
mo mos mon month months monat monate monaten mois mes meses
y yr yrs year years jahr jahre jahren an ans année années año años
b byte bytes; kb; mb; gb; tb; kib; mib; gib
hz; khz; mhz; ghz; mv; v volt; kv; ma; a; mw; w watt; kw; kwh; mwh; cal; kcal; j; kj
pa; hpa; kpa; mpa; mbar; bar; ppm; ppb
°c; °f
"""
"""Units of which several may stand for one quantity, with their spellings; what people count (`3 cats`) is none."""
_CURRENCIES = {"$": "usd", "€": "eur", "£": "gbp", "₹": "inr", "¥": "¥"} | {
    code: code for code in ("usd", "eur", "gbp", "inr", "chf", "jpy", "cny")
}
_NAMES = {word: unit.split()[0] for unit in re.split("[;\n]", _UNITS) for word in unit.split()} | _CURRENCIES
SPELLINGS = "|".join(map(re.escape, sorted(_NAMES, key=len, reverse=True)))
"""Alternatives of a pattern, the longest first."""
_SHORT = 2
"""Letters of which a word may mean something else in a sentence (`5 in the left lung`, `3 a day`): it must end it."""
_AFTER = re.compile(rf"[\s\u00a0\u202f-]?(?P<unit>{SPELLINGS})(?![^\W_]|[/·*^²³])(?P<rest>.*)", re.DOTALL)
_BEFORE = re.compile(rf"(?:(?<![^\W_])|(?<=^))(?P<unit>{'|'.join(map(re.escape, _CURRENCIES))})\s?-?$")
_ENDS = re.compile(r"[\s.,;:!?)\]}*_`'\"]*(?:$|\n)")


def name_of(spelling: str) -> str:
    """Return one name for all spellings of a unit; of what is none, the spelling itself."""
    folded = spelling.strip().rstrip(".").casefold()
    return _NAMES.get(folded, folded)


def is_unit(word: str) -> bool:
    """Whether a word as it stands is a unit: `m` is, `M` may be a million."""
    return word in _NAMES


@lru_cache(maxsize=4096)
def unit_between(before: str, after: str) -> str | None:
    """Return the unit of a number by what stands before and after it; None where there is none for certain."""
    if (found := _AFTER.match(after.casefold())) is not None:
        word = found["unit"]
        if len(word) > _SHORT or not word.isalpha() or _ENDS.match(found["rest"]):
            return name_of(word)
    return name_of(money["unit"]) if (money := _BEFORE.search(before.casefold())) is not None else None


def are_different(one: str | None, other: str | None) -> bool:
    """Whether both are known, and not the same."""
    return one is not None and other is not None and one != other
