"""What the benchmark would say by the source's own labels, and which labels reviewers changed towards a model.

A label that is changed to what the model said makes the model look better, whoever is right. Blind review of examples
that no model chose may do so rightly; anything else spoils the exam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune_assets.dataset.corrections import CONTESTED
from finetune_assets.evaluation.benchmark.pairing import Gain, Pairs, gain
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring import Scoring
from finetune_assets.evaluation.statistics import SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class BothLabels:
    """The deciding metric by the source's labels, beside that by today's, and how the test labels changed."""

    base: float
    fine_tuned: float
    """By the source's labels, 0 to 1."""
    gain: Gain
    """Fine-tuned over base by the source's labels."""
    n_changed: int
    n_towards: int
    """Answers of the fine-tuned model that became right by a changed label."""
    n_away: int
    """Answers that became wrong by one."""
    n_seeing_towards: int
    n_seeing_away: int
    """The same of labels that were not changed blind, through a queue that no model chose for."""

    @property
    def bent(self) -> bool:
        """Whether labels that were not changed blind went towards the model more often than chance lets them."""
        from scipy.stats import binomtest

        n = self.n_seeing_towards + self.n_seeing_away
        return n > 0 and float(binomtest(self.n_seeing_towards, n, alternative="greater").pvalue) < SIGNIFICANCE

    def __str__(self) -> str:
        return (
            f"by the source's own labels the fine-tuned model is right in {100 * self.fine_tuned:.1f} %, the base "
            f"model in {100 * self.base:.1f} %; reviewers changed {self.n_changed} test labels, {self.n_towards} "
            f"towards the fine-tuned model and {self.n_away} away from it"
        )


def by_source(scoring: Scoring[Any], pairs: Pairs) -> BothLabels | None:
    """Judge both models by the source's labels too; None where these are today's."""
    changed = np.array([_is_changed(row) for row in pairs.before])
    if not changed.any():
        return None
    before, after = _as_the_source_says(pairs.before), _as_the_source_says(pairs.after)
    old, new = scoring.score(after).right, scoring.score(pairs.after).right
    base, tuned = scoring.decisive(scoring.score(before)), scoring.decisive(scoring.score(after))
    seeing = changed & np.array([row.reviewed_in is None for row in pairs.before])
    return BothLabels(
        base=float(base.mean()),
        fine_tuned=float(tuned.mean()),
        gain=gain(scoring, base, tuned, pairs.groups),
        n_changed=int(changed.sum()),
        n_towards=int(np.sum(new > old)),
        n_away=int(np.sum(new < old)),
        n_seeing_towards=int(np.sum((new > old) & seeing)),
        n_seeing_away=int(np.sum((new < old) & seeing)),
    )


def unchosen(pairs: Pairs) -> tuple[Pairs, int]:
    """Return two candidates' answers by labels that neither chose, and how many the source gives instead of reviewers.

    A label that was corrected because an earlier model denied it makes that model's answer right; where its successor
    is the one that is right, nobody has looked yet. So labels corrected in such contests count once all that either
    model denies was reviewed, and until then the source's do. To leave the examples out would be worse still: what the
    earlier model denied holds its mistakes.
    """
    rows = (*pairs.before, *pairs.after)
    if all(row.reviewed_in is not None for row in rows if _denies(row)):
        return pairs, 0
    swapped = {row.example_id for row in pairs.before if _is_changed(row) and row.reviewed_in in (None, CONTESTED)}
    one, other = (
        [row if row.example_id not in swapped else _by_source(row) for row in side]
        for side in (pairs.before, pairs.after)
    )
    return replace(pairs, before=one, after=other), len(swapped)


def _denies(row: Prediction) -> bool:
    """Whether a model says something else than the source."""
    if row.predicted is None or row.source_truth is None:
        return False
    if row.predicted_value is not None and row.source_value is not None:
        return row.predicted_value != row.source_value
    said, labelled = (" ".join(words.split()).casefold() for words in (row.predicted, row.source_truth))
    return said != labelled


def _is_changed(row: Prediction) -> bool:
    return row.source_truth is not None and row.source_truth != row.truth


def _as_the_source_says(rows: Sequence[Prediction]) -> list[Prediction]:
    return [_by_source(row) if _is_changed(row) else row for row in rows]


def _by_source(row: Prediction) -> Prediction:
    return replace(row, truth=row.source_truth or row.truth, truth_value=row.source_value)
