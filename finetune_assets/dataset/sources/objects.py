"""From the objects that annotators drew in an image to an answer about all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from finetune_assets.dataset.identity import folded
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import Answer, ChoiceAnswer, NumberAnswer, ScoreAnswer
from finetune_assets.task.faults import nearest


@dataclass(slots=True)
class Objects:
    """The objects of one image."""

    counts: Counter[str] = field(default_factory=Counter)
    """By category."""
    uncountable: set[str] = field(default_factory=set)
    """Categories of which a crowd was drawn as one, or an object was too hard to tell."""
    certain: set[str] = field(default_factory=set)
    """Categories of which one object at least was not too hard to tell."""

    def add(self, category: str, *, crowd: bool = False, difficult: bool = False) -> None:
        """Take one object into account."""
        self.counts[category] += 1
        if crowd or difficult:
            self.uncountable.add(category)
        if not difficult:
            self.certain.add(category)

    def row(self, category: str | None, answer: Answer | None) -> dict[str, Any]:
        """The cells `category`, `n` and `answer` of the image's row; an answer that is not certain is None."""
        if category is None:
            only = next(iter(self.certain), None) if len(self.counts) == 1 else None
            return {"category": only, "n": self.counts.total(), "answer": only}
        n = self.counts[category]
        if isinstance(answer, NumberAnswer):
            return {"category": category, "n": n, "answer": None if category in self.uncountable else n}
        return {"category": category, "n": n, "answer": None if n and category not in self.certain else n > 0}


def category_of(path: UPath, stated: str | None, names: Sequence[str], answer: Answer | None) -> str | None:
    """Return the category that is asked about: the one that is stated, or the only one; None where all may be answers.

    Raises:
        SourceError: there is no such category, several look like it, or there are several and none is stated.
    """
    alike = [name for name in dict.fromkeys(names) if stated is not None and folded(name) == folded(stated)]
    if len(alike) > 1:
        raise SourceError(f"{path}: has the categories {' and '.join(map(repr, alike))}; call them the same, or apart")
    if stated is not None and stated not in names:
        there = ", ".join(names[:20]) or "none"
        raise SourceError(f"{path}: has no category {stated!r}; it has {there}{nearest(stated, list(names))}")
    if stated is not None or isinstance(answer, ChoiceAnswer | ScoreAnswer) or answer is None:
        return stated
    if len(names) == 1:
        return names[0]
    there = ", ".join(names[:20]) or "(none)"
    raise SourceError(f"{path}: has the categories {there}; say by `category` under source which one is asked about")
