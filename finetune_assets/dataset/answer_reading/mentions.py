"""Where a text names the task's words, and which of these places may be an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from finetune_assets.dataset.answer_reading.answer_text import normal
from finetune_assets.dataset.answer_reading.lexicon import BECAUSE

ASSENT = frozenset(
    ["yes", "yeah", "yep", "ja", "oui", "sí", "si", "sim", "да", "evet", "はい", "是", "对", "有", "예", "네", "y"]
)
DISSENT = frozenset(
    [
        "no",
        "nope",
        "nein",
        "non",
        "não",
        "nee",
        "nej",
        "нет",
        "hayır",
        "いいえ",
        "否",
        "不",
        "不是",
        "无",
        "아니요",
        "n",
    ]
)
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "i",
        "is",
        "are",
        "was",
        "be",
        "and",
        "or",
        "of",
        "in",
        "on",
        "at",
        "to",
        "it",
        "as",
        "can",
        "may",
        "do",
        "not",
        "none",
        "if",
    ]
)
# Scripts that set no space between words.
_CJK = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_LETTER = rf"[^\W_{_CJK}]"
# 是否 is `whether` and 不是 `is not`: neither is the word 否 or 是.
_CJK_LEFT = "(?<![是不])"
_CJK_SIGN = re.compile(f"[{_CJK}]")

_MARKUP = (
    r"</?(?:b|i|em|strong|p|br|span|u|code|answer|final_answer)\s*/?>"
    r"|\\(?:boxed|fbox|text(?:bf|it|rm|sf|tt)?|math(?:bf|rm|it|sf))\s*\{|\\[(\[]|\\[)\]]"
)
OPENING = rf"(?:\s|{_MARKUP}|[*_`\"'“”‘’«»「『【（(\[{{$>•→✅✔☑👉\ufe0f]|#{{1,6}}\s|[-–]\s|:\s)*"
"""What may stand before an answer and be none of it: quotation marks, brackets, Markdown, LaTeX, a bullet."""
CLOSING = rf"(?:\s|{_MARKUP}|[*_`\"'“”‘’«»」』】）)\]}}$.,;:!…。、，；：！✅✔☑\ufe0f])*"
"""What may stand after it."""
_OPENED = re.compile(OPENING)
_ENDS = re.compile(
    rf"{_MARKUP}|\s*(?:$|[.,;:!?)\]}}…\"”’»*_`。、，；：！？）」』】$\n]|[—–]\s*\S)|'(?!\w)|\s+[-–—]\s+\S|\s+\\"
    rf"|\s*(?:{BECAUSE.pattern})"
)
_OR_ANOTHER = re.compile(r"\s*(?:/|\||&|=|<|>|->|→|(?:or|and|oder|und|ou|et|o|y|vs\.?|to|nor)\b|[-–])")
_JOINED_BEFORE = re.compile(r"[^\W\d_][-\u2010\u2011]")
_JOINED_AFTER = re.compile(r"[-\u2010\u2011][^\W_]")
_BEGINS = re.compile(rf"(?:^|[^\w+#]|[{_CJK}])$")
_GOES_ON = re.compile(r"\s+(?:it|there|i|they|he|she|this|that|we|the)(?!\w)")
"""After a yes or no at the beginning, without a comma."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A place at which a folded text names one of the task's words."""

    option: str
    start: int
    end: int
    bare: bool
    """Whether the word is also a letter, an article or the like: it counts only where it stands by itself."""
    compound: bool
    """Whether it is part of a longer word, as in `non-defective`."""
    ended: bool
    """Whether the answer may end here: a stop, a bracket, a reason follows."""
    listed: bool
    """Whether another one follows, as in `A or B`."""

    @property
    def counts(self) -> bool:
        """Whether this may be meant as an answer."""
        return not self.bare or self.ended or self.listed


def mentions(text: str, options: tuple[str, ...]) -> list[Mention]:
    """Return the places of the options in a folded text; where one is part of another, the longer one's only."""
    found = list(_mentions(text, options))
    return [one for one in found if not any(_covers(other, one) for other in found)]


def leads(text: str, start: int) -> bool:
    """Return whether nothing but signs and white space stands before a place."""
    return _OPENED.fullmatch(text, 0, start) is not None


@lru_cache(maxsize=1024)
def is_assent(option: str) -> bool:
    """Return whether the word says yes or no to a question, whatever was asked."""
    return normal(option) in ASSENT | DISSENT


def answer_ends(text: str, end: int) -> bool:
    """Return whether an answer may end at a place: a stop, a bracket, a reason follows."""
    return _ENDS.match(text, end) is not None


def _mentions(text: str, options: tuple[str, ...]) -> Iterator[Mention]:
    for option, bare, pattern in _patterns(options):
        for match in pattern.finditer(text):
            start, end = match.span()
            before, after = text[max(0, start - 2) : start], text[end : end + 2]
            wordy = not _CJK_SIGN.search(text[start:end])
            compound = wordy and bool(_JOINED_BEFORE.fullmatch(before) or _JOINED_AFTER.fullmatch(after))
            begins = not bare or _BEGINS.search(text, max(0, start - 1), start) is not None
            ended = begins and (answer_ends(text, end) or _says_so(text, option, start, end))
            listed = begins and _OR_ANOTHER.match(text, end) is not None
            yield Mention(option, start, end, bare, compound, ended, listed)


def _says_so(text: str, option: str, start: int, end: int) -> bool:
    return is_assent(option) and leads(text, start) and _GOES_ON.match(text, end) is not None


def _covers(other: Mention, one: Mention) -> bool:
    longer = other.end - other.start > one.end - one.start
    return longer and other.start <= one.start and one.end <= other.end


@lru_cache(maxsize=256)
def _patterns(options: tuple[str, ...]) -> tuple[tuple[str, bool, re.Pattern[str]], ...]:
    return tuple((option, _is_bare(option), re.compile(_spelled(option))) for option in options)


def _is_bare(option: str) -> bool:
    word = normal(option).strip()
    return (len(word) == 1 and word.isalpha()) or word in ASSENT | DISSENT | _FUNCTION_WORDS


def _spelled(option: str) -> str:
    """Build the pattern of an option as a word of its own; white space in it may be any, a hyphen or an underscore."""
    word = normal(option).strip()
    first, last = word[0], word[-1]
    if first.isdigit():
        left = r"(?<![\w<>≤≥±~/+-])(?<!\d[.,])"
    elif first.isalnum():
        left = (_CJK_LEFT if len(word) == 1 else "") if _CJK_SIGN.match(first) else rf"(?<!{_LETTER})"
    else:
        left = rf"(?<!{_LETTER})(?<![+<>=-])"
    if last.isdigit():
        right = rf"(?!{_LETTER})(?![.,]\d)(?!\s?[%/])(?![+#])"
    elif last.isalnum():
        right = "" if _CJK_SIGN.match(last) else rf"(?!{_LETTER})(?![+#])"
    else:
        right = r"(?![\w+#<>=])" if last in "+-#<>=" else r"(?![^\W_])"
    return left + r"[\s_-]+".join(re.escape(part) for part in word.split()) + right
