"""Which of the task's words a free text answers with.

Certain is a word that is the whole answer; one that the text announces (`The answer is`); one it begins with; and the
only one it names, where nothing negates it, leaves it open or takes it back. All else is None.
"""

from __future__ import annotations

import re
from functools import lru_cache

from finetune_assets.dataset.answer_reading.answer_text import Span, normal
from finetune_assets.dataset.answer_reading.cues import AFFIRMED, LETTER, SOMEBODY_ELSE_S, STRONG, WEAK, announced
from finetune_assets.dataset.answer_reading.mentions import (
    CLOSING,
    DISSENT,
    Mention,
    is_assent,
    leads,
    mentions,
)
from finetune_assets.dataset.answer_reading.plain import follows_plainly, is_plain
from finetune_assets.dataset.answer_reading.sentences import Sentence, blank, doubted, graded, hedged, negated

_CLOSING = re.compile(CLOSING)


def read_word(text: str, options: tuple[str, ...]) -> Mention | None:
    """Return the place of the option that a folded text answers with, or None where that is not certain."""
    if whole := _exact(text, options):
        return whole
    found = [each for each in mentions(text, options) if each.counts or _affirmed(text, each)]
    if len(found) == 1 and _is_whole(text, found[0]):
        return found[0]
    if not found:
        return None
    blanked = blank(text, [Span(each.start, each.end) for each in found])
    if doubted(blanked):
        return None
    cued = [each for each in found if _is_cued(text, each)]
    return _announced(text, blanked, found, cued) if cued else _plain(text, blanked, found)


def stands_in(text: str, word: str) -> bool:
    """Return whether a text answers with a word, whatever other answers there are."""
    return read_word(normal(text), (word,)) is not None


def why_unread(text: str, options: tuple[str, ...]) -> str | None:
    """Say why a text that names one of the words is not read as it, or return None where it names none."""
    folded = normal(text)
    found = [each for each in mentions(folded, options) if each.counts]
    named = list(dict.fromkeys(each.option for each in found))
    if not named:
        return None
    if len(named) > 1:
        return f"it names {' and '.join(named)}"
    blanked = blank(folded, [Span(each.start, each.end) for each in found])
    everything = Span(0, len(blanked))
    if negated(blanked, everything) or found[0].compound:
        return f"it says something else of {named[0]!r}, as `not` does"
    return f"it does not plainly say {named[0]!r}"


def _exact(text: str, options: tuple[str, ...]) -> Mention | None:
    """Find the option that the text is but for white space and a full stop, whatever signs it is made of."""
    stripped = " ".join(text.split())
    option = _by_spelling(options).get(stripped) or _by_spelling(options).get(stripped.removesuffix("."))
    if option is None:
        return None
    start = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    if stripped not in _by_spelling(options):
        end = len(text[:end].removesuffix(".").rstrip())
    return Mention(option, start, end, bare=False, compound=False, ended=True, listed=False)


@lru_cache(maxsize=256)
def _by_spelling(options: tuple[str, ...]) -> dict[str, str]:
    return {" ".join(normal(option).split()): option for option in options}


def _is_whole(text: str, each: Mention) -> bool:
    return not each.compound and leads(text, each.start) and _CLOSING.fullmatch(text, each.end) is not None


def _affirmed(text: str, each: Mention) -> bool:
    return AFFIRMED.match(text, each.end) is not None


def _is_cued(text: str, each: Mention) -> bool:
    if each.compound:
        return False
    if _affirmed(text, each):
        return True
    ends = each.ended or (not each.bare and follows_plainly(text, each.end, noun=True))
    return ends and announced(text, each.start, STRONG) is not None


def _announced(text: str, blanked: str, found: list[Mention], cued: list[Mention]) -> Mention | None:
    """Return the option that is announced as the answer, where all announcements agree and none is turned round."""
    option = cued[-1].option
    if any(each.option != option or not _stands(text, blanked, found, each) for each in cued):
        return None
    rivals = [each for each in found if each.option != option]
    if any(is_assent(each.option) and each.start > cued[0].end for each in rivals):
        return None
    lead = found[0]
    is_list = len({each.option for each in found if each not in cued}) > 1
    if lead in rivals and lead.ended and leads(text, lead.start) and not (is_list and lead.bare):
        return None
    return None if any(_is_asserted(blanked, each) for each in rivals if not each.bare) else cued[-1]


def _stands(text: str, blanked: str, found: list[Mention], each: Mention) -> bool:
    """Return whether an announcement says what it seems to say."""
    sentence = Sentence.around(blanked, Span(each.start, each.end))
    statement, clause = sentence.statement, sentence.clause
    begin = announced(text, each.start, STRONG)
    foreign = (
        begin is not None and SOMEBODY_ELSE_S.search(blanked, max(clause.start, begin - 30), each.start) is not None
    )
    others = [other for other in found if other.option != each.option and clause.start <= other.start < statement.end]
    blurred = negated(blanked, clause) or hedged(blanked, statement) or sentence.retracted
    return not (foreign or others or blurred)


def _is_asserted(blanked: str, each: Mention) -> bool:
    statement = Sentence.around(blanked, Span(each.start, each.end)).statement
    return not negated(blanked, statement) and not hedged(blanked, statement)


def _plain(text: str, blanked: str, found: list[Mention]) -> Mention | None:
    """Return the only option that is named, where it leads or stands in a plain sentence."""
    first = found[0]
    if len({each.option for each in found}) > 1 or any(each.compound for each in found):
        return None
    everything = Span(0, len(blanked))
    sentence = Sentence.around(blanked, Span(first.start, first.end))
    if hedged(blanked, everything) or graded(blanked, sentence.statement) or sentence.retracted:
        return None
    if first.ended and leads(text, first.start):
        says_no = normal(first.option) in DISSENT
        return first if says_no or not negated(blanked, sentence.statement) else None
    if not first.bare:
        until = sentence.statement.end if sentence.statement.end < sentence.span.end else len(blanked)
        turned = negated(blanked, Span(0, until)) or not all(_is_plain(text, blanked, each) for each in found)
        return None if turned else first
    said = [each for each in found if _is_said(text, each)]
    if not said:
        return None
    clause = Sentence.around(blanked, Span(said[-1].start, said[-1].end)).clause
    return None if negated(blanked, clause) else said[-1]


def _is_plain(text: str, blanked: str, each: Mention) -> bool:
    place = Span(each.start, each.end)
    return is_plain(text, Sentence.around(blanked, place).clause, place)


def _is_said(text: str, each: Mention) -> bool:
    """Return whether a letter, or a yes or no, within a sentence is meant as its answer: `I would say D`."""
    if not each.ended:
        return False
    letter = not is_assent(each.option) and announced(text, each.start, LETTER) is not None
    return letter or announced(text, each.start, WEAK) is not None
