"""What one arm's answers amount to, and how two arms compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune_assets.evaluation.statistics import Interval, Outcome


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm's answers to the test examples."""

    name: str
    kind: str
    how: str
    """How it was asked, in words."""
    model: str
    n: int
    """Examples that it answered; those that a person answers are not among them."""
    value: Interval
    """The deciding metric."""
    n_handed: int
    """Examples that a cascade handed over."""
    calibration_error: Interval | None
    """How far its probabilities are off; None where it gives none."""
    is_calibrated: bool
    """Whether that is after calibration; else they are the model's own."""
    p50_s: float | None
    """Half of the answers came within so many seconds; None of answers from batches alone."""
    p99_s: float | None
    """99 of 100 did."""
    usd_per_1000: float | None
    """What 1,000 answers cost, without training and hosting; None where the price is not known."""
    n_failed: int
    n_unparseable: int
    prompt: str | None = None
    """The system prompt that was searched for; None where it is the task's."""

    def costing(self, usd_per_1000: float | None) -> ArmResult:
        """Return the same with another price."""
        return replace(self, usd_per_1000=usd_per_1000)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms on the same examples."""

    better: str
    """Name of the one that is right more often, here."""
    worse: str
    difference: Interval
    """Of the deciding metric; its interval is not raised for the number of pairs."""
    p_value: float
    """Of the paired test, raised for the number of pairs (Holm)."""
    outcome: Outcome
    """Of the better one: `better` where that is no chance."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Arms by the deciding metric, and every two of them."""

    label: str
    """Of that metric."""
    arms: Sequence[ArmResult]
    pairs: Sequence[Pair]

    def behind(self, name: str) -> Pair | None:
        """Return the pair of the first arm and another; None of the first itself."""
        return next((pair for pair in self.pairs if (pair.better, pair.worse) == (self.arms[0].name, name)), None)
