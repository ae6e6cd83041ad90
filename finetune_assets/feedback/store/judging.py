"""What reviewers said about one example, which of it stands, and what that decides. Knows no database.

Each reviewer's latest judgement that is not undone counts once. An example is decided where a strict majority agrees,
or where somebody adjudicated after all judgements; else the reviewers are in conflict. All this is about one content:
who judged another question or image has not judged this one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from finetune_assets.dataset.answer_reading import read_number

Kind = Literal["accept", "correct", "reject", "skip", "comment", "undo", "adjudicate"]
JUDGEMENTS = ("accept", "correct", "reject")


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """Something a reviewer does to an example."""

    key: str
    """A UUID that the client makes: what comes twice with one key happened once."""
    task: str
    region: str
    example_id: str
    reviewer: str
    kind: Kind
    answer: str | None = None
    """The true answer in the task's words (accept, correct, adjudicate); None adjudicates that it is rejected."""
    comment: str | None = None
    undoes: int | None = None
    """Number of the reviewer's event that is undone."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What the reviewer saw: queue, label, model, model_answer, probability, content."""
    seconds: float | None = None
    """How long it took."""


@dataclass(frozen=True, kw_only=True)
class Event(NewEvent):
    """What a reviewer did, as it is stored."""

    number: int
    """Events of all regions are numbered in the order in which they were stored."""
    content: str
    """The content that it is about."""
    at: float
    """Unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the reviewers say about an example."""

    example_id: str
    content: str
    """It holds for this content only."""
    verdict: Literal["answer", "reject"]
    answer: str | None
    """The true answer in the task's words; None where the example is rejected."""
    reviewers: tuple[str, ...]
    """Who decided it so, in the order of their words."""
    n_judgements: int
    """How many reviewers judged it, however they did."""
    decided_at: float
    """Unix seconds of the last word."""
    last_event: int
    """Number of the last word."""
    comment: str | None
    """The newest comment."""


@dataclass(frozen=True)
class Standing:
    """What the events of one example come to."""

    words: Mapping[str, Event]
    """Each reviewer's latest judgement of the present content or, where he made none, his latest skip of it."""
    decision: Decision | None
    """Of the present content; where nobody has judged that yet, of the one that was judged last."""


def standing(events: Sequence[Event], content: str, kind: str) -> Standing:
    """Work out what the events of an example of this `content` come to; `kind` is that of its answers."""
    undone = {event.undoes for event in events if event.kind == "undo"}
    stand = [event for event in events if event.kind != "undo" and event.number not in undone]
    now = [event for event in stand if event.content == content]
    words = {event.reviewer: event for event in now if event.kind == "skip"}
    words |= {event.reviewer: event for event in now if event.kind in JUDGEMENTS}
    counting = [event for event in stand if event.kind in (*JUDGEMENTS, "adjudicate")]
    if counting and not any(event.content == content for event in counting):
        content = counting[-1].content
    return Standing(words, _decision([event for event in stand if event.content == content], kind))


def meaning(answer: str | None, kind: str) -> str | float | None:
    """Return what two answers that say the same have in common; None for a rejection."""
    if answer is None or kind in ("binary", "choice"):
        return answer
    return read_number(answer) if kind == "number" else " ".join(answer.split()).casefold()


def _decision(events: Sequence[Event], kind: str) -> Decision | None:
    counting = [event for event in events if event.kind in (*JUDGEMENTS, "adjudicate")]
    if not counting:
        return None
    last = counting[-1]
    judgements = {event.reviewer: event for event in counting if event.kind in JUDGEMENTS}
    agreed = [last] if last.kind == "adjudicate" else _majority(list(judgements.values()), kind)
    if not agreed:
        return None
    agreed = sorted(agreed, key=lambda event: event.number)
    return Decision(
        example_id=last.example_id,
        content=last.content,
        verdict="reject" if agreed[-1].answer is None else "answer",
        answer=agreed[-1].answer,
        reviewers=tuple(event.reviewer for event in agreed),
        n_judgements=len(judgements),
        decided_at=last.at,
        last_event=last.number,
        comment=next((event.comment for event in reversed(events) if event.comment), None),
    )


def _majority(judgements: Sequence[Event], kind: str) -> list[Event]:
    sides: dict[str | float | None, list[Event]] = defaultdict(list)
    for event in judgements:
        sides[meaning(event.answer, kind)].append(event)
    largest = max(sides.values(), key=len)
    return largest if 2 * len(largest) > len(judgements) else []
