"""Which answers a model gives by itself, so that a promised share of them is right; all others are for a person.

The threshold is chosen on the calibration split by a bound that holds in finite samples. Thresholds are tried from the
surest answers on, and each has to pass an exact binomial test; the last one before the first that fails is taken. Tests
in an order that is fixed beforehand need no correction for their number (Angelopoulos and others 2021, "Learn then
test", fixed sequence testing). Taking the largest share of answers whose accuracy *looks* good enough breaks the
promise about every other time.

Arrays are `sure` [n], how sure each answer is of itself, and `right` [n], whether it is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune_assets.evaluation.shares import accuracy_interval, design_effect, wilson
from finetune_assets.evaluation.statistics import FloatArray, Interval
from finetune_assets.task.judging import Defer

NEVER = 2.0
"""How sure an answer must be where none is given without a person: no probability is."""
_STEPS = 40
"""About so many thresholds are tried."""
Groups = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class DeferralReport:
    """What a threshold does to the test split."""

    asked: Defer
    least: float
    """How sure an answer must be to be given without a person; `NEVER` where the calibration split promises nothing."""
    n: int
    n_answered: int
    """Of the test split, without a person."""
    accuracy: Interval | None
    """Of those; None of none."""
    share_unproved: float
    """Share of the test split that would be answered at the threshold that only looks good enough."""
    needed: int
    """Fewest calibration examples that could promise anything: all of them right."""
    curve: tuple[tuple[float, float], ...]
    """Of the test split, the surest tenth, two tenths and so on: the share answered, and the share of them right."""

    @property
    def broken(self) -> bool:
        """Whether the test split shows that the promise does not hold."""
        return self.accuracy is not None and self.accuracy.high < self.asked.target_accuracy

    def __str__(self) -> str:
        target, confidence = 100 * self.asked.target_accuracy, 100 * self.asked.confidence
        promise = f"{target:g} % right, said with {confidence:g} % confidence"
        if self.least >= NEVER:
            return (
                f"no answer can be promised to be {promise}: all go to a person. At least {self.needed:,} calibration "
                "examples are needed, of which the surest are right"
            )
        share = 100 * self.n_answered / self.n
        if self.accuracy is None:
            return f"it answers none of the {self.n} test examples by itself ({promise})"
        found = (
            f"{100 * self.accuracy.estimate:.1f} % ({100 * self.accuracy.low:.1f} to {100 * self.accuracy.high:.1f})"
        )
        kept = (
            "which keeps the promise" if self.accuracy.estimate >= self.asked.target_accuracy else "which may be chance"
        )
        if self.broken:
            kept = "which breaks the promise"
        return (
            f"it answers {share:.0f} % by itself, the rest goes to a person ({promise}); of these {self.n_answered} "
            f"test examples {found} are right, {kept}. A threshold without that guarantee would answer "
            f"{100 * self.share_unproved:.0f} %"
        )


def choose(asked: Defer, sure: FloatArray, right: FloatArray, groups: Groups) -> float:
    """Return how sure an answer must be, by the calibration split; `NEVER` where nothing can be promised."""
    order = np.argsort(-sure, kind="stable")
    ranked, correct, members = sure[order], right[order], groups[order]
    least = NEVER
    for n in range(fewest(asked), len(ranked) + 1, max(1, len(ranked) // _STEPS)):
        # Answers that are as sure as the last one are given, too.
        taken = int(np.searchsorted(-ranked, -ranked[n - 1], side="right"))
        if _lowest(correct[:taken], members[:taken], asked.confidence) < asked.target_accuracy:
            break
        least = float(ranked[n - 1])
    return least


def fewest(asked: Defer) -> int:
    """Return how many answers, all of them right, promise the accuracy: n with target^n <= 1 - confidence."""
    return math.ceil(math.log(1 - asked.confidence) / math.log(asked.target_accuracy))


def unproved(asked: Defer, sure: FloatArray, right: FloatArray) -> float:
    """Return the threshold that looks good enough on the calibration split, without any guarantee."""
    order = np.argsort(-sure, kind="stable")
    accuracy = right[order].cumsum() / np.arange(1, len(order) + 1)
    good = np.flatnonzero(accuracy >= asked.target_accuracy)
    return float(sure[order][good[-1]]) if len(good) else NEVER


def judge(
    asked: Defer, thresholds: tuple[float, float], sure: FloatArray, right: FloatArray, groups: Groups
) -> DeferralReport:
    """Judge the threshold with a guarantee, and that without, on the test split."""
    least, looks = thresholds
    given = sure >= least
    order = np.argsort(-sure, kind="stable")
    tenths = [max(1, round(len(sure) * tenth / 10)) for tenth in range(1, 11)]
    return DeferralReport(
        asked=asked,
        least=least,
        n=len(sure),
        n_answered=int(given.sum()),
        accuracy=accuracy_interval(right[given], groups[given]) if given.any() else None,
        share_unproved=float(np.mean(sure >= looks)),
        needed=fewest(asked),
        curve=tuple((n / len(sure), float(right[order][:n].mean())) for n in tenths),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What people found of answers that were given without them, in use."""

    asked: Defer
    n: int
    n_right: int

    @property
    def broken(self) -> bool:
        """Whether they show that the promise does not hold: in use it is looked at again and again.

        The likelihood of what was found, averaged over all accuracies below the promised one, may be any number of
        times 1 / (1 - confidence) of that at the promised one with a chance of 1 - confidence at most, however often it
        is looked at (Ville 1939; a test martingale).
        """
        from scipy.special import betainc, betaln

        right, wrong, target = self.n_right, self.n - self.n_right, self.asked.target_accuracy
        below = float(betainc(right + 1, wrong + 1, target))
        if below <= 0:
            return False
        averaged = float(betaln(right + 1, wrong + 1)) + math.log(below) - math.log(target)
        promised = right * math.log(target) + wrong * math.log(1 - target)
        return averaged - promised >= -math.log(1 - self.asked.confidence)

    def __str__(self) -> str:
        if not self.n:
            return "reviewers have checked none of its answers yet"
        share = wilson(self.n_right, self.n)
        found = f"{100 * share.estimate:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"
        said = f"of {self.n} answers given without a person that reviewers checked blind, {found} are right"
        return f"{said}, which breaks the promise of {100 * self.asked.target_accuracy:g} %" if self.broken else said


def _lowest(right: FloatArray, groups: Groups, confidence: float) -> float:
    """Return the lower end of the share that is right (Clopper and Pearson), of examples that may share groups.

    Those count as so many fewer as they tell less (Korn and Graubard 1998).
    """
    from scipy.stats import beta

    effect = max(1.0, design_effect(right, groups)[0])
    n, wrong = len(right) / effect, float((1 - right).sum()) / effect
    return float(1 - beta.ppf(confidence, wrong + 1, n - wrong)) if wrong < n else 0.0
