"""What reviewers said about one example, which of it stands, and what that decides. Knows no database.

Each reviewer's latest judgement that is not undone counts once. An example is decided where a strict majority agrees,
or where somebody adjudicated; else the reviewers are in conflict. All this is about one content: who judged another
question or image has not judged this one.

A question asked in use has no label; its judgements are blind unless its reviewer had seen the model's answer, and only
blind ones tell whether the model keeps what was promised of it.

A held-out example, by which models are judged, is decided by blind judgements alone, and by two that agree: else
whoever accepts what a model says would write the model's exam. What else is said about it is kept and decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from finetune_assets.dataset.answer_reading import read_number, same_call
from finetune_assets.task import HELD_OUT

Kind = Literal["accept", "correct", "reject", "skip", "comment", "undo", "adjudicate"]
JUDGEMENTS = ("accept", "correct", "reject")
IN_USE = "in_use"
"""The split of questions that were asked in use, and their queue."""
BLIND_SPLITS = (*HELD_OUT, IN_USE)
"""Splits of which reviewers are told neither label nor model."""
_FOLLOWING = ("second_opinion", "conflicts")
LABELS_HIDDEN = ("audit", "contested", "second_opinion")
"""Queues that show no label."""
UNBIASED = ("doubtful", "audit", "contested", *_FOLLOWING)
"""Queues of which no single model chooses the held-out examples, nor a reviewer."""


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
    """What the reviewer saw: queue, label, model, model_answer, probability, content. `blind` is the store's own word:
    that of all it ever handed him of this content, nothing said what a model or another reviewer answers."""
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
    blind: bool
    """Whether it may change a held-out example: two blind judgements agree, or an adjudicator who saw no model. Of a
    question asked in use: whether all who decided it were blind."""
    queue: str | None
    """Through which queue the example was chosen, where that is known."""


@dataclass(frozen=True)
class Standing:
    """What the events of one example come to."""

    words: Mapping[str, Event]
    """Each reviewer's latest judgement of the present content or, where he made none, his latest skip of it."""
    decision: Decision | None
    """Of the present content; where nobody has judged that yet, of the one that was judged last."""
    n_judgements: int
    """Reviewers whose judgement of the present content counts."""


def standing(events: Sequence[Event], content: str, kind: str, split: str, minimum: int = 1) -> Standing:
    """Work out what the events of an example of this `content` come to.

    Args:
        events: All of the example, in the order of their numbers.
        content: The example as it is now.
        kind: That of its answers.
        split: Where it is held out, only blind judgements count.
        minimum: Judgements that must agree.
    """
    held_out = split in HELD_OUT
    undone = {event.undoes for event in events if event.kind == "undo"}
    stand = [event for event in events if event.kind != "undo" and event.number not in undone]
    now = [event for event in stand if event.content == content]
    words = {event.reviewer: event for event in now if event.kind == "skip"}
    words |= {event.reviewer: event for event in now if event.kind in JUDGEMENTS}
    counting = [event for event in stand if _counts(event, held_out)]
    n = len({event.reviewer for event in counting if event.content == content and event.kind in JUDGEMENTS})
    if counting and not any(event.content == content for event in counting):
        content = counting[-1].content
    said = [event for event in counting if event.content == content]
    comments = [event.comment for event in stand if event.content == content and event.comment]
    decision = _decision(said, kind, max(minimum, 2) if held_out else minimum)
    if decision is not None:
        blind = held_out or (split == IN_USE and all(event.shown.get("blind") is True for event in said))
        decision = replace(decision, comment=comments[-1] if comments else None, blind=blind)
    return Standing(words, decision, n)


def meaning(answer: str | None, kind: str) -> str | float | None:
    """Return what two answers that say the same have in common; None for a rejection."""
    if answer is None or kind in ("binary", "choice", "score"):
        return answer
    if kind == "call":
        return same_call(answer) or answer.strip()
    return read_number(answer) if kind == "number" else " ".join(answer.split()).casefold()


def _counts(event: Event, held_out: bool) -> bool:
    if event.kind not in (*JUDGEMENTS, "adjudicate") or event.shown.get("gold"):
        return False
    return not held_out or (event.shown.get("blind") is True and event.shown.get("queue") in UNBIASED)


def _decision(events: Sequence[Event], kind: str, minimum: int) -> Decision | None:
    judgements = {event.reviewer: event for event in events if event.kind in JUDGEMENTS}
    ended = [event for event in events if event.kind == "adjudicate"]
    enough = len(judgements) >= minimum
    agreed = ended[-1:] if ended and (enough or minimum == 1) else _majority(list(judgements.values()), kind, minimum)
    if not agreed:
        return None
    agreed = sorted(agreed, key=lambda event: event.number)
    return Decision(
        example_id=agreed[-1].example_id,
        content=agreed[-1].content,
        verdict="reject" if agreed[-1].answer is None else "answer",
        answer=agreed[-1].answer,
        reviewers=tuple(event.reviewer for event in agreed),
        n_judgements=len(judgements),
        decided_at=events[-1].at,
        last_event=events[-1].number,
        comment=None,
        blind=False,
        queue=_chosen_by(events),
    )


def _chosen_by(events: Sequence[Event]) -> str | None:
    """The queue of the first judgement: second opinions and conflicts choose among what others have judged."""
    return next((event.shown["queue"] for event in events if event.shown.get("queue") not in (None, *_FOLLOWING)), None)


def _majority(judgements: Sequence[Event], kind: str, minimum: int) -> list[Event]:
    sides: dict[str | float | None, list[Event]] = defaultdict(list)
    for event in judgements:
        sides[meaning(event.answer, kind)].append(event)
    largest = max(sides.values(), key=len, default=[])
    return largest if len(largest) >= minimum and 2 * len(largest) > len(judgements) else []
