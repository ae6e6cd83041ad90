"""Which model answers for a region: the champion, who it was before, and what keeps the newest model from being it.

A model becomes the champion by passing its checks, and by a person's approval where the task asks for that. The history
is only ever added to; going back to an earlier champion is a line in it, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from pydantic import JsonValue, TypeAdapter

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.promotion_policy import Reason
from finetune_assets.task import Prompt, Task
from finetune_assets.task.answers import Answer

Way = Literal["checks", "approval", "rollback"]
TO_APPROVE = "a person has to approve it"
Kept = dict[str, JsonValue]
"""A document as it was written. It is read when it is used, so that a history outlives the versions that wrote it."""
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


@dataclass(frozen=True, slots=True)
class Champion:
    """A model that may be used for a region, with all that its use needs."""

    model: str
    provider: str
    base_model: str
    job_id: str
    calibrator: Kept
    """As its `to_dict` wrote it."""
    task_fingerprint: str
    metric: str
    """Name of the deciding metric."""
    value: float
    """Of that metric on the test split."""
    n_test: int
    since: str
    """When it became the champion: ISO 8601, UTC."""
    way: Way
    approved_by: str | None = None
    trained_at: str | None = None
    """When its job was submitted: ISO 8601, UTC; None of champions from before this was kept."""
    rule: Kept | None = None
    """What becomes of its probabilities (`answering.Rule`); None of numbers, and where none was kept yet."""
    reference: Kept | None = None
    """How its held-out examples look (`drift.Reference`); None where nobody watches what it is asked."""
    address: str | None = None
    """Who its provider was (`asked_as`); this and what follows is None of champions from before it was kept."""
    prompt: Kept | None = None
    """What it was trained to be asked, whatever the task's YAML says by now."""
    answer: Kept | None = None
    """And to answer."""
    trained_on: str | None = None
    """SHA-256 (hex) of its training file."""
    best: bool = True
    """Whether it did no worse than the best champion before it, so that its successors are held against it."""

    def as_trained(self, task: Task) -> Task:
        """Return the task with the prompt and the answer's words that this model was trained with."""
        if self.prompt is None or self.answer is None:
            return task
        own = {"prompt": Prompt.model_validate(self.prompt), "answer": _ANSWER.validate_python(self.answer)}
        return task.model_copy(update=own)


@dataclass(frozen=True, slots=True)
class Standing:
    """A region's champions, and the model that would be the next one."""

    history: tuple[Champion, ...] = ()
    """Oldest first; the last one is the champion."""
    candidate: str | None = None
    """The newest model where it is not the champion."""
    objections: tuple[str, ...] = ()
    """Why it is not."""
    reasons: tuple[Reason, ...] = ()
    """Everything that was asked about the newest model, and the answers."""
    judged: tuple[str, ...] = ()
    """The region's models that were judged, oldest first: each is a chance to find a gain where there is none."""

    @property
    def champion(self) -> Champion | None:
        """The model that answers for the region."""
        return self.history[-1] if self.history else None

    @property
    def best(self) -> Champion | None:
        """The champion that successors are held against: the last one that was no worse than the best before it."""
        return next((entry for entry in reversed(self.history) if entry.best), self.champion)

    def attempt(self, model: str) -> int:
        """Which of the region's models this one is, from 1."""
        earlier = (entry.model for entry in self.history if entry.model not in self.judged)
        known = list(dict.fromkeys((*earlier, *self.judged)))
        return known.index(model) + 1 if model in known else len(known) + 1

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; `from_dict` makes an equal one of that."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        history = tuple(Champion(**entry) for entry in data["history"])
        reasons = tuple(Reason(**reason) for reason in data.get("reasons", ()))
        return cls(history, data["candidate"], tuple(data["objections"]), reasons, tuple(data.get("judged", ())))


def consider(
    standing: Standing, newest: Champion, reasons: Sequence[Reason], *, needs_approval: bool, approved_by: str = ""
) -> Standing:
    """Make the newest model the champion, or note why it is not.

    A model that a rollback has taken away comes back by approval alone, or the next run would undo the rollback. The
    champion's own new calibrator replaces the old one without asking again.

    Args:
        standing: Before.
        newest: The region's newest model; its `way` and `approved_by` are set here.
        reasons: What was asked about it, and the answers.
        needs_approval: Whether a person has to agree.
        approved_by: Who does; empty is nobody.
    """
    objections = [reason.words for reason in reasons if not reason.good]
    judged = tuple(dict.fromkeys((*standing.judged, newest.model)))
    standing = replace(standing, reasons=tuple(reasons), judged=judged)
    champion = standing.champion
    if champion and champion.model == newest.model:
        # A champion from before its prompt was kept is given it.
        used = (champion.calibrator, champion.rule, champion.reference, champion.prompt)
        if used == (newest.calibrator, newest.rule, newest.reference, newest.prompt):
            return replace(standing, candidate=None, objections=())
        agreed = approved_by or champion.approved_by
        kept = replace(newest, way=champion.way, approved_by=agreed, best=champion.best)
        return _unless(objections, standing, kept)
    against = list(objections)
    if not approved_by and any(newest.model == earlier.model for earlier in standing.history):
        against.append("a rollback has taken its place away, so only a person's approval gives it back")
    elif not approved_by and needs_approval and not against:
        against.append(TO_APPROVE)
    way: Way = "approval" if approved_by else "checks"
    return _unless(against, standing, replace(newest, way=way, approved_by=approved_by or None))


def roll_back(standing: Standing, model: str, since: str, approved_by: str) -> Standing:
    """Make an earlier champion the champion again, as it was last.

    Raises:
        EvaluationError: the region never had it, or has it now.
    """
    champion = standing.champion
    earlier = {entry.model: entry for entry in standing.history if champion and entry.model != champion.model}
    if model not in earlier:
        known = ", ".join(earlier) or "none"
        raise EvaluationError(f"{model!r} was no earlier champion of this region; ways back lead to: {known}")
    entry = replace(earlier[model], since=since, way="rollback", approved_by=approved_by or None, best=True)
    left = champion.model if champion else None
    why = f"replaced by a rollback{f' of {approved_by}' if approved_by else ''}"
    return replace(standing, history=(*standing.history, entry), candidate=left, objections=(why,))


def _unless(against: Collection[str], standing: Standing, next_one: Champion) -> Standing:
    """Add the next champion to the history, or note what stands against it."""
    if against:
        return replace(standing, candidate=next_one.model, objections=tuple(against))
    return replace(standing, history=(*standing.history, next_one), candidate=None, objections=())
