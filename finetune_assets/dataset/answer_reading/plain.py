"""Words that may stand around an option in a plain sentence: `The tyre is clearly worn on the left`, `正常です`.

No list of negations and hedges is complete, in any language. So a sentence is plain only where known words lead to the
option and known words, or none, follow it; in all others, as in `apenas roto` or `ei viallinen`, a word that nobody
listed may turn it round.
"""

from __future__ import annotations

import re

from finetune_assets.dataset.answer_reading.answer_text import Span
from finetune_assets.dataset.answer_reading.cues import LONGEST
from finetune_assets.dataset.answer_reading.mentions import OPENING, answer_ends
from finetune_assets.dataset.answer_reading.spoken_of import (
    ADVERBS,
    ARTICLES,
    COPULAS,
    NO_FINDINGS,
    RELATIVES,
    SHOWS,
    WORDS,
    speaks_of_it,
    word_set,
)

_DESCRIBING = word_set("a an the this")
"""Articles after which one more word may stand: of a language whose negations and hedges are listed best."""
_AMOUNTS = word_set(
    """
    about around approximately roughly approx circa ca cca etwa ungefähr rund zirka environ aproximadamente of at for
    von zu de price weight length height width depth area volume age total number score value temperature distance size
    amount sum preis gewicht länge höhe breite tiefe fläche volumen alter anzahl summe wert größe temperatur abstand
    prix poids longueur hauteur âge nombre somme valeur precio peso altura edad número suma valor prezzo numero
    usd eur gbp chf jpy cny inr cad aud kr rs fr zł kč
    """
)
_MEASURES = word_set(
    """
    weighs cost costs measures count counts equals totals reads makes say estimate wiegt kostet misst beträgt lautet
    pèse coûte mesure
    """
)
_FOLLOWING = word_set(
    """
    in on at with along near across around over through throughout inside beside below above by from of for due here
    there now today and so im am auf an mit bei durch entlang und hier dans sur avec à au aux et ici en con por y aquí
    su nel nella e qui em com op aan met door på med
    """
)
_NAMED_AS = re.compile(
    r"(?:(?:classif(?:y|ied)|label(?:l?ed)?|rated?|graded?|categori[sz]ed?|marked|judged?|diagnosed?)"
    r"(?: (?:it|this|them))? (?:as|with)|found to be|(?:photo|picture|image) of)$"
)
_CJK_LEADING = re.compile("(?:是|为|為|は|有|可见|可見|发现|發現|存在|出现|出現|显示|顯示|属于|屬於|[은는이가] ?)$")
_CJK_FOLLOWING = re.compile("(?:です|でした|だ|である|입니다|이다|이에요|예요|임)")
_TURNING = re.compile(r".*(?:ly|ment|mente|ish|like)|semi|pseudo|quasi|near|sub|pre|post|.{1,2}")
"""What may stand between an article and the option and make it another, as `moderately`; `small` does not."""
_HEAD = 3
"""Words before a colon that are its head."""
_OF_ANOTHER = re.compile(
    rf"[^.;\n]{{0,80}}(?<![^\W_])"
    rf"(?:{'|'.join(sorted(RELATIVES))}|(?:19|20)\d\d|\d+ (?:year|month|week|day)s? ago)(?![^\W_])"
)
"""What may follow an option in its sentence and makes it another one's, or of another time: `in his twin`."""
_TO_OPTION = re.compile(rf"{OPENING}$")
_NEXT = re.compile(r"\s+([^\W_]+(?:['’-][^\W_]+)*)")


def is_plain(text: str, clause: Span, place: Span) -> bool:
    """Return whether known words alone lead to a place of a folded text, from where its clause begins, and follow."""
    before = _before(text, clause.start, place.start)
    if _CJK_LEADING.search(before):
        return follows_plainly(text, place.end, noun=False)
    words, noun = _led_by(WORDS.findall(before))
    if before.endswith(":") and not NO_FINDINGS.isdisjoint(words[-_HEAD:]):
        return False
    if words and not before.endswith(":"):
        shows = words[-1] in SHOWS
        named = None if shows or words[-1] in COPULAS else _NAMED_AS.search(" ".join(words[-3:]))
        if (not shows and words[-1] not in COPULAS and not named) or not speaks_of_it(
            before, named[0] if named else ""
        ):
            return False
        noun |= shows
    return follows_plainly(text, place.end, noun=noun)


def _led_by(words: list[str]) -> tuple[list[str], bool]:
    """Return the words before those that are known to say nothing, and whether these hold an article."""
    described = len(words) > 1 and words[-2] in _DESCRIBING and not _TURNING.fullmatch(words[-1])
    words = words[:-1] if described and words[-1] not in COPULAS | SHOWS else words
    rest = len(words)
    while rest and words[rest - 1] in ADVERBS | ARTICLES:
        rest -= 1
    return words[:rest], not ARTICLES.isdisjoint(words[rest:])


def is_plain_amount(before: str) -> bool:
    """Return whether the words before a number, folded and from where their clause begins, say nothing else than it."""
    before = _before(before, 0, len(before))
    words = WORDS.findall(before)
    while words and words[-1] in ADVERBS | ARTICLES | _AMOUNTS:
        words.pop()
    if not words or before.endswith((":", "=")):
        return True
    return words[-1] in COPULAS | SHOWS | _MEASURES or _CJK_LEADING.search(before) is not None


def follows_plainly(text: str, end: int, *, noun: bool) -> bool:
    """Return whether what follows a place leaves what it says: nothing, or where it is; or first the noun it is of."""
    copula = _CJK_FOLLOWING.match(text, end)
    end = copula.end() if copula else end
    for _ in range(3 if noun else 1):
        following = _NEXT.match(text, end)
        if _OF_ANOTHER.match(text, end):
            return False
        if answer_ends(text, end) or text[end : end + 2] == " (" or (following and following[1] in _FOLLOWING):
            return True
        if following is None or not following[1].isascii():
            return False
        end = following.end()
    return False


def _before(text: str, start: int, end: int) -> str:
    """Return what stands before a place but for the signs that lead to it; it ends in a colon where there is one."""
    opening = _TO_OPTION.search(text, max(start, end - LONGEST), end)
    begin = opening.start() if opening else end
    colon = ":" if ":" in text[begin:end] else ""
    return text[start:begin].rstrip(" ,~≈€£¥₹-") + colon
