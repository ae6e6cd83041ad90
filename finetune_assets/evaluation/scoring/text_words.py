"""The words by which texts are compared: case and punctuation make no difference, signs and symbols do."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from finetune_assets.dataset.answer_reading import says_not, stands_in

ARTICLES = frozenset({"a", "an", "the"})
_MINUS_SIGNS = str.maketrans(dict.fromkeys("\u2212\u2013\ufe63\uff0d", "-"))
# Written without spaces: each character is a word; a run of katakana is one.
_SINGLE = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u309f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_SYMBOLS = r"<>=≤≥≠±¬~^/°%‰$€£¥&@#+√∞×÷\u2190-\u22ff\u2600-\u27bf\U0001f300-\U0001faff"
_WORD = re.compile(
    # A sign belongs to the number it touches, but is a hyphen after a word; a percent sign to the number before it.
    r"(?:(?<![\w)\]])[-+](?=\.?\d))?(?:\d+(?:[.,]\d+)*|\.\d+)(?:e[-+]?\d+)?(?![^\W\d_])(?:\s?[%‰])?"
    rf"|[\u30a0-\u30ff]+|[{_SINGLE}]"
    # Na+, Ca2+, C++, C#, Na-; a hyphen before another word is none of it.
    rf"|[^\W{_SINGLE}\u30a0-\u30ff]+(?:\+\+|[+#](?!\w)|-(?=$|[\s,.;:)\]]))?"
    rf"|[{_SYMBOLS}]"
)
_GROUPS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))|\s")
_CHANGES_NEXT, _CHANGES_LAST = frozenset("<>≤≥≠±¬~^/"), frozenset("%‰/^±")
_CLAUSE_END = re.compile(r"[.;:!?\n,。、，；：！？](?!\d)|\b(?:but|so|however|therefore|sondern|mais|sino)\b")


class _Word(NamedTuple):
    text: str
    start: int
    end: int


def words(text: str) -> list[str]:
    """Return the words of a text: lower case, without punctuation and, unless nothing else is left, without articles.

    `-5`, `10%`, `C++` and `Na+` are words, and so are `<` and `°`. `1,000` is `1000`. Of scripts without spaces each
    character is one.
    """
    return [word.text for word in _words(_normal(text))]


def holds(text: str, truth: str) -> bool:
    """Return whether a text has the words of the truth one after another and does not deny them.

    A truth that is also an article (`A`) must stand where an answer stands.
    """
    true, normal = words(truth), _normal(text)
    if not true:
        return False
    if ARTICLES.issuperset(true):
        return stands_in(text, truth)
    given = _words(normal)
    places = (given[k : k + len(true)] for k in range(len(given) - len(true) + 1))
    found = [place for place in places if [word.text for word in place] == true]
    denies = says_not(truth)
    return any(_is_whole(normal, place) and (denies or not _negated(normal, place)) for place in found)


def _normal(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text.translate(_MINUS_SIGNS)).casefold()
    return re.sub(r"\*\*|__|`", " ", normal)


def _words(normal: str) -> list[_Word]:
    found = [_Word(_GROUPS.sub("", match[0]), *match.span()) for match in _WORD.finditer(normal)]
    return [word for word in found if word.text not in ARTICLES] or found


def _is_whole(normal: str, place: Sequence[_Word]) -> bool:
    """Return whether no sign beside a number makes it another: `< 5`, `1/5` and `5^2` are not 5."""
    first, last = place[0], place[-1]
    before, after = normal[: first.start].rstrip()[-1:], normal[last.end :].lstrip()[:1]
    changed = first.text[:1].isdigit() and before in _CHANGES_NEXT
    return not changed and not (last.text[-1:].isdigit() and after in _CHANGES_LAST)


def _negated(normal: str, place: Sequence[_Word]) -> bool:
    """Return whether the clause says `not` before these words, or at once after them."""
    start = max((end.end() for end in _CLAUSE_END.finditer(normal, 0, place[0].start)), default=0)
    after = _CLAUSE_END.split(normal[place[-1].end :], maxsplit=1)[0]
    return says_not(normal[start : place[0].start]) or says_not(" ".join(after.split()[:3]))
