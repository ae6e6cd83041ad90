"""How a region's model is used: which word a probability stands for, and which answers are left to a person.

Both are chosen on the calibration split, with the calibrator, and judged on the test split. Word and probability never
contradict each other: where a probability is known, the word is the one that the threshold makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from finetune_assets.evaluation import deferral, operating_point
from finetune_assets.evaluation.calibration import Calibrator, Evidence, calibrated
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator
from finetune_assets.evaluation.deferral import DeferralReport
from finetune_assets.evaluation.operating_point import PointReport
from finetune_assets.evaluation.statistics import FloatArray
from finetune_assets.task.answers import Answer, BinaryAnswer
from finetune_assets.task.judging import Benchmark


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a calibrated probability."""

    threshold: float = operating_point.USUAL
    """From it on the answer is the positive one (binary answers)."""
    least: float | None = None
    """How sure an answer must be to be given without a person; None where all are."""
    unproved: float | None = None
    """The same by what only looks good enough; used to compare, never to answer."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote."""
        return cls(**data)

    def is_positive(self, p: float) -> bool:
        """Whether a probability of the positive answer means that answer."""
        return p >= self.threshold

    def word(self, predicted: str | None, p: float | None, answer: Answer) -> str | None:
        """Return the word that an answer with this probability is given as; None where it cannot be read."""
        if not isinstance(answer, BinaryAnswer) or p is None or predicted is None:
            return predicted
        return answer.positive if self.is_positive(p) else answer.negative

    def asks_a_person(self, p: float | None, *, binary: bool) -> bool:
        """Whether the answer with this probability is left to a person; p is None where there is no probability."""
        if self.least is None:
            return False
        if p is None:
            return True
        sure = p if not binary or self.is_positive(p) else 1 - p
        return sure < self.least


@dataclass(frozen=True, slots=True)
class UseReport:
    """What the rule does to the test split."""

    point: PointReport | None
    """Of binary answers."""
    deferral: DeferralReport | None
    """None where the task leaves no answers to a person."""
    broken: tuple[str, ...]
    """What was asked of either and is shown not to hold."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        said = [str(part) for part in (self.point, self.deferral) if part is not None]
        return ". ".join(f"{words[0].upper()}{words[1:]}" for words in said) + "." if said else ""


def fit(asked: Benchmark, calibrator: Calibrator, calibration: Evidence, answer: Answer) -> Rule | None:
    """Choose the rule on the calibration split; None of numbers, which have no probabilities."""
    if isinstance(calibrator, ConformalCalibrator):
        return None
    p, binary = calibrated(calibrator, calibration), isinstance(answer, BinaryAnswer)
    rule = Rule(
        operating_point.choose(asked.operating_point, p, calibration.truth) if binary else operating_point.USUAL
    )
    if asked.defer is None:
        return rule
    sure, right = _outcomes(rule, p, calibration.truth, binary=binary)
    least = deferral.choose(asked.defer, sure, right, calibration.groups)
    return Rule(rule.threshold, least, deferral.unproved(asked.defer, sure, right))


def judge(asked: Benchmark, rule: Rule, calibrator: Calibrator, test: Evidence, answer: Answer) -> UseReport | None:
    """Judge the rule on the test split; None where it changes nothing."""
    if isinstance(calibrator, ConformalCalibrator):
        return None
    p, binary = calibrated(calibrator, test), isinstance(answer, BinaryAnswer)
    point, left = None, None
    if binary:
        prevalence = asked.operating_point.prevalence if asked.operating_point else None
        point = operating_point.judge(rule.threshold, p, test.truth, test.groups, prevalence)
    if asked.defer and rule.least is not None and rule.unproved is not None:
        sure, right = _outcomes(rule, p, test.truth, binary=binary)
        left = deferral.judge(asked.defer, (rule.least, rule.unproved), sure, right, test.groups)
    broken = [point.misses(asked.operating_point)] if point and asked.operating_point else []
    if left and left.broken:
        broken.append(f"what was promised of answers without a person does not hold: {left}")
    return UseReport(point, left, tuple(words for words in broken if words))


def _outcomes(rule: Rule, p: FloatArray, truth: FloatArray, *, binary: bool) -> tuple[FloatArray, FloatArray]:
    """Return how sure each answer is [n], and whether it is right [n]."""
    if not binary:
        return p, truth
    positive = p >= rule.threshold
    return np.where(positive, p, 1 - p), (positive == (truth == 1)).astype(float)
