"""How good each reviewer is: by gold questions, by the others (Dawid and Skene), and by how long he looks.

Dawid and Skene (1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm") need no gold:
each reviewer has chances of his own to say `l` where `k` is true, and whoever agrees with those who agree is believed
more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.event_rows import not_undone
from finetune_assets.feedback.store.judging import JUDGEMENTS, meaning
from finetune_assets.feedback.store.queues import HASTY_EVENTS, HASTY_SECONDS
from finetune_assets.feedback.store.schema import events, gold, items

MIN_TWICE = 10
"""Examples that a reviewer and others must both have judged for an estimate by the others."""
_ROUNDS = 100
_SMOOTHING = 0.5
"""Added to every count: who was right five times of five is not right for ever."""


@dataclass(frozen=True)
class Quality:
    """How good one reviewer is."""

    reviewer: str
    n: int
    """His judgements."""
    n_gold: int
    n_gold_right: int
    by_others: float | None
    """Chance that he is right by Dawid and Skene; None of numbers, texts, and few examples that others judged too."""
    median_seconds: float | None
    too_fast: bool
    """Whether half of his judgements took less than a second."""


@dataclass(frozen=True)
class _Said:
    item: int
    reviewer: str
    answer: str | float | None
    gold: str | float | None
    is_gold: bool
    seconds: float | None


def quality(db: FeedbackDatabase, task: str, region: str | None = None) -> list[Quality]:
    """Measure everybody who has judged, in one region or in all of the task, by name.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    columns = (events.c.item, events.c.reviewer, events.c.answer, events.c.seconds, events.c.shown, items.c.kind)
    query = select(*columns, gold.c.answer.label("right")).join_from(events, items)
    query = query.outerjoin(gold, gold.c.item == items.c.number).order_by(events.c.number)
    query = query.where(
        items.c.task == task, events.c.kind.in_(JUDGEMENTS), events.c.content == items.c.content, not_undone()
    )
    if region is not None:
        query = query.where(items.c.region == region)
    latest: dict[tuple[int, str], _Said] = {}
    kinds = set()
    with db.reading() as connection:
        for row in connection.execute(query):
            kinds.add(row.kind)
            said, right = meaning(row.answer, row.kind), meaning(row.right, row.kind)
            is_gold = row.right is not None and row.shown.get("gold") is True
            latest[row.item, row.reviewer] = _Said(row.item, row.reviewer, said, right, is_gold, row.seconds)
    chances = (
        {} if kinds & {"number", "text"} else dawid_skene([(s.item, s.reviewer, s.answer) for s in latest.values()])
    )
    mine: dict[str, list[_Said]] = defaultdict(list)
    for said in latest.values():
        mine[said.reviewer].append(said)
    twice = _judged_twice(latest)
    return [_of(name, mine[name], chances.get(name) if twice[name] >= MIN_TWICE else None) for name in sorted(mine)]


def _judged_twice(latest: Mapping[tuple[int, str], _Said]) -> dict[str, int]:
    judges: dict[int, list[str]] = defaultdict(list)
    for item, reviewer in latest:
        judges[item].append(reviewer)
    found: dict[str, int] = defaultdict(int)
    for names in judges.values():
        for name in names if len(names) > 1 else ():
            found[name] += 1
    return found


def _of(name: str, said: Sequence[_Said], chance: float | None) -> Quality:
    asked = [one for one in said if one.is_gold]
    seconds = [one.seconds for one in said if one.seconds is not None]
    usual = median(seconds) if seconds else None
    hasty = usual is not None and len(seconds) >= HASTY_EVENTS and usual < HASTY_SECONDS
    return Quality(name, len(said), len(asked), sum(one.answer == one.gold for one in asked), chance, usual, hasty)


def dawid_skene(said: Sequence[tuple[int, str, str | float | None]]) -> dict[str, float]:
    """Return each reviewer's chance to be right, over what is true how often: sum over k of p(k) P(says k | k).

    `said` names an example, who judged it, and his answer; a rejection is an answer of its own.
    """
    if not said:
        return {}
    item, reviewer, word = (
        np.unique([repr(row[place]) if place == 2 else str(row[place]) for row in said], return_inverse=True)
        for place in range(3)
    )
    votes = np.zeros((len(item[0]), len(reviewer[0]), len(word[0])))
    votes[item[1], reviewer[1], word[1]] = 1
    truth = votes.sum(1) / votes.sum((1, 2))[:, None]
    for _ in range(_ROUNDS):
        prior, errors = _errors(votes, truth)
        found = np.log(prior) + np.einsum("irl,rkl->ik", votes, np.log(errors))
        found = np.exp(found - found.max(1, keepdims=True))
        found /= found.sum(1, keepdims=True)
        if np.abs(found - truth).max() < 1e-6:
            break
        truth = found
    prior, errors = _errors(votes, truth)
    right = np.einsum("k,rkk->r", prior, errors)
    return {str(name): float(chance) for name, chance in zip(reviewer[0], right, strict=True)}


def _errors(votes: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each word is true [k], and each reviewer's chances to say each word where one is true [r x k x l]."""
    counts = np.einsum("ik,irl->rkl", truth, votes) + _SMOOTHING
    prior = truth.sum(0) + _SMOOTHING
    return prior / prior.sum(), counts / counts.sum(2, keepdims=True)
