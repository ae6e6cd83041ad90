"""What reviewers decided, applied to a region's sampled examples before they are filtered.

A decision holds for one example and for what was shown of it: where the question, the system message or the image has
changed since, it is not applied but counted. Where there is no example of its id any more (files were moved, or ids are
made otherwise than before), it holds for the first example that shows the same. It changes a label and takes a doubt or
the whole example away; never the split, which was drawn before anybody reviewed. Both labels stay: what counts today,
and what the source said. A held-out example changes only by a decision that was made blind; and one that models chose,
because they denied its label, is never taken away, as its successors would not be asked what the earlier ones missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from finetune_assets.dataset.answer_reading import label
from finetune_assets.dataset.identity import content
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.shown import seen_sha256
from finetune_assets.dataset.table import Table, records
from finetune_assets.task import HELD_OUT
from finetune_assets.task.answers import Answer

DTYPES = {
    "example_id": "str",
    "content": "str",
    "answer": "str",
    "reviewed_by": "str",
    "reviewed_at": "str",
    "comment": "str",
    "n_judgements": "int64",
    "blind": "bool",
    "queue": "str",
}
"""Columns of a table of decisions, one for each example, and their pandas types. `answer` is the true one in the task's
words, missing where the example was rejected; `reviewed_at` is ISO 8601 in UTC. `blind`: two agreed without having seen
what any model says, or an adjudicator decided between two such; `queue`: how the example was chosen."""
PROVENANCE = {
    "label_from": "str",
    "source_answer": "str",
    "source_score": "float64",
    "reviewed_by": "str",
    "reviewed_at": "str",
    "reviewed_in": "str",
}
"""Columns that say where the label of a clean example is from. `label_from`: `source` or `review`; `source_answer`,
`source_score`: what the source said, whatever counts today; `reviewed_in`: the queue through which it was chosen
(`audit`, a random sample; `contested`, what any candidate denied; `doubtful`, what the source doubted); `reviewed_*`
are missing where nobody reviewed."""
CONTESTED = "contested"
"""The queue of what candidates denied (`reviewed_in`): the only one for which models chose the examples."""
_LOOKED_AT = [
    "example_id",
    "split",
    "system",
    "question",
    "image_sha256",
    "pictures",
    "answer",
    "score",
    "doubt",
    "problem",
]
_CHANGED = {"answer": "str", "score": "float64", "doubt": "str", "problem": "str", "detail": "str", **PROVENANCE}


class Outcome(StrEnum):
    """What became of a decision."""

    CHANGED = "changed"
    """Another label than the source's."""
    CONFIRMED = "confirmed"
    TAKEN_IN = "taken in"
    """The source's label was in doubt, whichever was found true."""
    REJECTED = "rejected"
    DOUBTED = "rejected, but kept as doubtful"
    """It is held out, and was chosen because a model denied its label."""
    OUTDATED = "outdated"
    """What is asked is no longer what the reviewer saw."""
    UNREADABLE = "unreadable"
    """The answer is none of the task's words, which have changed since."""
    WAITS = "waits for a second blind judgement"
    """It is held out, and changes only by two judgements that were made without seeing what a model says."""
    ABSENT = "absent"
    """The example is not sampled any more."""


def changed(before: pd.DataFrame, now: pd.DataFrame) -> set[str]:
    """Name the examples of which something else is decided now than before; columns of both as in `DTYPES`."""
    columns = ["example_id", "content", "answer"]
    was, is_now = (
        {row["example_id"]: (row["content"], row["answer"]) for row in records(table.filter(columns))}
        for table in (before, now)
    )
    return {name for name in was.keys() | is_now.keys() if was.get(name) != is_now.get(name)}


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A region's sampled examples with what was decided about them; read in chunks like their table."""

    sampled: Table
    changes: pd.DataFrame
    """What is other than in the table, by row number, ascending: columns as in `_CHANGED`."""
    outcomes: Counter[tuple[str, Outcome]]
    """Number of decisions by split ("" where the example has none) and outcome; all decisions add up."""

    @classmethod
    def of(cls, sampled: Table, decisions: pd.DataFrame, answer: Answer) -> Reviewed:
        """Find the row of each decision, columns as in `DTYPES`, and what it changes there."""
        outcomes: Counter[tuple[str, Outcome]] = Counter()
        changes: dict[int, dict[str, Any]] = {}
        found, absent = _found(sampled, decisions)
        for number, (row, decision) in found.items():
            outcome, change = _decided(row, decision, answer)
            outcomes[row["split"] or "", outcome] += 1
            if change is not None:
                changes[number] = change
        if absent:
            outcomes["", Outcome.ABSENT] += absent
        index = pd.Index(list(changes), dtype="int64")
        return cls(sampled, pd.DataFrame(list(changes.values()), index, list(_CHANGED)).astype(_CHANGED), outcomes)

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Stream the rows as `Table.chunks`, as reviewers decided; with all columns come those of `PROVENANCE`."""
        for chunk in self.sampled.chunks(columns):
            if columns is None:
                own = dict.fromkeys(PROVENANCE) | {"label_from": "source"}
                said = {"source_answer": chunk["answer"], "source_score": chunk["score"]}
                chunk = chunk.assign(**own | said).astype(PROVENANCE)
            changes = self.changes.loc[self.changes.index.isin(chunk.index)]
            if len(changes):
                names = [name for name in chunk if name in _CHANGED]
                chunk.loc[changes.index, names] = changes[names]
            yield chunk

    def decided(self, n: int) -> np.ndarray:
        """Say of each of n rows whether a reviewer decided about it, [n]."""
        found = np.zeros(n, bool)
        found[self.changes.index] = True
        return found


_Found = dict[int, tuple[dict[str, Any], dict[str, Any]]]
"""Row and decision by the row's number, ascending."""


def _found(sampled: Table, decisions: pd.DataFrame) -> tuple[_Found, int]:
    """Find the row of each decision by its id, else by what was shown; and the number of those of which there is none.

    Of rows that show the same, the first is taken: the others are its duplicates.
    """
    waiting = {row["example_id"]: row for row in records(decisions)}
    found: _Found = {}
    for chunk in sampled.chunks(_LOOKED_AT) if waiting else ():
        named = chunk.loc[chunk["example_id"].isin(list(waiting))]
        for number, row in zip(named.index, records(named), strict=True):
            found[number] = row, waiting.pop(row["example_id"])
    shown = {decision["content"]: decision for decision in waiting.values()}
    for chunk in sampled.chunks(_LOOKED_AT) if shown else ():
        for number, row in zip(chunk.index, records(chunk), strict=True):
            seen = content(row["question"], row["system"], seen_sha256(row))
            if seen in shown and number not in found:
                found[number] = row, shown.pop(seen)
                del waiting[found[number][1]["example_id"]]
    return dict(sorted(found.items())), len(waiting)


def _decided(row: dict[str, Any], decision: dict[str, Any], answer: Answer) -> tuple[Outcome, dict[str, Any] | None]:
    """Return what becomes of a decision about a row, and the row's changed columns."""
    shown = content(row["question"], row["system"], seen_sha256(row))
    if row["problem"] is not None or shown != decision["content"]:
        return Outcome.OUTDATED, None
    if row["split"] in HELD_OUT and not decision["blind"]:
        return Outcome.WAITS, None
    change = {name: row.get(name) for name in _CHANGED} | {
        "label_from": "review",
        "source_answer": row["answer"],
        "source_score": row["score"],
        "reviewed_in": decision["queue"],
        "reviewed_by": decision["reviewed_by"],
        "reviewed_at": decision["reviewed_at"],
        "doubt": None,
        "detail": "",
    }
    if decision["answer"] is None:
        said = f": {decision['comment']}" if decision["comment"] else ""
        why = f"rejected by {decision['reviewed_by']}{said}"
        if row["split"] in HELD_OUT and decision["queue"] == CONTESTED:
            return Outcome.DOUBTED, change | {"doubt": why}
        return Outcome.REJECTED, change | {"problem": str(Reason.REJECTED_BY_REVIEWER), "detail": why}
    read = label(decision["answer"], answer)
    if read is None:
        return Outcome.UNREADABLE, None
    same = read.answer == row["answer"]
    # A confirmed score stays as the source gives it: it may say more than yes or no.
    change |= {"answer": read.answer, "score": row["score"] if same else read.score}
    outcome = Outcome.CONFIRMED if same else Outcome.CHANGED
    return (Outcome.TAKEN_IN if row["doubt"] is not None else outcome), change
