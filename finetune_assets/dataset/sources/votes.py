"""Several people's answers to the same question are votes: the majority is the label, and their share its score.

Rows that ask the same of the same image in one region are votes on it; of one person only the last counts. A tie, or a
majority that is smaller than the task wants, is doubtful: a reviewer decides. Some 300 bytes of memory are taken for
each question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources.origin import key
from finetune_assets.task.answers import Answer, BinaryAnswer


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's answer."""

    example: Example
    by: str
    """Who gave it."""


@dataclass(slots=True)
class _Ballot:
    first: Example
    votes: dict[str, Example] = field(default_factory=dict)
    """By who gave it."""


def counted(votes: Iterable[Vote], answer: Answer, min_agreement: float) -> Iterator[Example]:
    """Give each question once, in the order in which it was first asked; rows that are no votes go by as they are.

    Args:
        votes: Examples with who answered.
        answer: What an answer is; numbers and texts have no majority unless people wrote the same.
        min_agreement: Share of the votes that the majority must exceed.
    """
    ballots: dict[str, _Ballot] = {}
    for vote in votes:
        if vote.example.problem is not None or vote.example.answer is None:
            yield vote.example
            continue
        shown = [picture.image for picture in vote.example.pictures]
        asked = key(vote.example.region, vote.example.system, vote.example.question, vote.example.image, *shown)
        ballot = ballots.setdefault(asked, _Ballot(vote.example))
        ballot.votes[vote.by] = vote.example
    for ballot in ballots.values():
        yield _decided(ballot, answer, min_agreement)


def _decided(ballot: _Ballot, answer: Answer, min_agreement: float) -> Example:
    votes = Counter(vote.answer for vote in ballot.votes.values())
    n, [(first, most), *others] = votes.total(), votes.most_common()
    said = ", ".join(f"{found} {word}" for word, found in votes.most_common())
    if others and others[0][1] == most:
        return replace(ballot.first, answer=None, score=None, doubt=f"the {n} votes are tied: {said}")
    winner = next(vote for vote in ballot.votes.values() if vote.answer == first)
    doubt = winner.doubt if most / n > min_agreement else f"only {most} of {n} votes agree: {said}"
    score = votes[answer.positive] / n if isinstance(answer, BinaryAnswer) else winner.score
    return replace(winner, answer=first, score=score, doubt=doubt)
