"""Whether a text asserts what stands at a place in it, or negates it, leaves it open or takes it back."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_assets.dataset.answer_reading.answer_text import Span, normal
from finetune_assets.dataset.answer_reading.lexicon import (
    BECAUSE,
    CONCLUSION,
    CONTRAST,
    DEGREE,
    DOUBT,
    HEDGE,
    NEGATION,
    RETRACTION,
    SENTENCE_END,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """The sentence that holds a place of a folded text in which the candidates are blanked out."""

    text: str
    """All of it."""
    span: Span
    place: Span

    @classmethod
    def around(cls, blanked: str, place: Span) -> Sentence:
        """Find the sentence of a place."""
        start, end = 0, len(blanked)
        for match in SENTENCE_END.finditer(blanked):
            if match.end() <= place.start:
                start = match.end()
            elif match.start() >= place.end:
                end = match.end()
                break
        return cls(blanked, Span(start, end), place)

    @property
    def statement(self) -> Span:
        """The sentence up to the reason that follows the place."""
        reason = BECAUSE.search(self.text, self.place.end, self.span.end)
        return Span(self.span.start, reason.start() if reason else self.span.end)

    @property
    def clause(self) -> Span:
        """The statement from the last `so` or `therefore` before the place."""
        starts = [match.end() for match in CONCLUSION.finditer(self.text, self.span.start, self.place.start)]
        return Span(starts[-1] if starts else self.span.start, self.statement.end)

    @property
    def retracted(self) -> bool:
        """Whether what follows the place, or a later sentence, takes it back."""
        begins = [self.place.end, *(match.end() for match in SENTENCE_END.finditer(self.text, self.place.end))]
        if any(RETRACTION.match(self.text, begin) for begin in begins):
            return True
        contrast = CONTRAST.search(self.text, self.place.end)
        return contrast is not None and negated(self.text, Span(contrast.end(), len(self.text)))


def negated(blanked: str, part: Span) -> bool:
    """Return whether a part of a text holds a negation."""
    return NEGATION.search(blanked, *part) is not None


def hedged(blanked: str, part: Span) -> bool:
    """Return whether a part of a text leaves open what it says."""
    return HEDGE.search(blanked, *part) is not None


def graded(blanked: str, part: Span) -> bool:
    """Return whether a part of a text says by a number how far its words hold."""
    return DEGREE.search(blanked, *part) is not None


def doubted(blanked: str) -> bool:
    """Return whether a text says that its writer does not know."""
    return DOUBT.search(blanked) is not None


def says_not(text: str) -> bool:
    """Return whether a text holds a word or sign of negation."""
    return NEGATION.search(normal(text)) is not None


def blank(text: str, places: list[Span]) -> str:
    """Replace places of a text by as many signs that mean nothing."""
    for start, end in places:
        text = text[:start] + "\0" * (end - start) + text[end:]
    return text
