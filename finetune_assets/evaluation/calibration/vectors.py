"""Calibrators of all of a task's words at once: from the probabilities of options or levels to ones that are true.

Arrays are p [n x k], the model's probabilities of each of k words, and y [n], which of them is true.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration.fitted import Fitted
from finetune_assets.evaluation.calibration.reliability import clip
from finetune_assets.evaluation.calibration.score_calibrator import FEW
from finetune_assets.evaluation.statistics import FloatArray

SMALLEST = 1e-12
"""Probabilities are at least this before a logarithm."""
_STEEPEST = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorCalibrator(Fitted, ABC):
    """Fitted by the least log loss of the true words on the calibration split."""

    options: list[str]
    """The words, in the order of the probabilities."""

    @classmethod
    def fit(cls, p: ArrayLike, y: ArrayLike, options: list[str], *, model: str, kind: str) -> Self:
        """Fit on p [n x k] and y [n] of the calibration split, as weighed by `model`.

        A true word counts as (n + 1) / (n + 2) true, so that words that are told apart without a mistake have a finite
        fit (Platt's targets).

        Raises:
            EvaluationError: no examples, a probability missing or outside 0..1, or shapes that do not fit.
        """
        probabilities, truth = _checked(p, y, len(options))
        n, k = probabilities.shape
        target = np.full((n, k), 1 / (n + 2) / (k - 1))
        target[np.arange(n), truth] = (n + 1) / (n + 2)
        return cls(
            kind=kind,
            model=model,
            fingerprint=hashlib.sha256(probabilities.tobytes() + truth.tobytes()).hexdigest(),
            n=n,
            warning=f"fitted on {n} examples only: enlarge the calibration split" if n < FEW else None,
            options=list(options),
            **cls._curve(probabilities, target),
        )

    def apply(self, p: ArrayLike, *, model: str | None = None) -> FloatArray:
        """Calibrate p [n x k]; each row adds up to 1. `model` says who gave p, where the caller knows it.

        Raises:
            EvaluationError: p of another model, or no probabilities of these words.
        """
        self.require(model)
        return self._mapped(_checked(p, None, len(self.options))[0])

    @classmethod
    @abstractmethod
    def _curve(cls, p: FloatArray, target: FloatArray) -> dict[str, Any]:
        """Return the numbers that the method adds, by field, for targets [n x k]."""

    @abstractmethod
    def _mapped(self, p: FloatArray) -> FloatArray:
        """Return the calibrated probabilities [n x k]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorTemperatureCalibrator(VectorCalibrator):
    """Temperature scaling of the whole vector: each probability to the power of `slope`, one over the temperature.

    Guo, Pleiss, Sun and Weinberger, ICML 2017, "On calibration of modern neural networks". The order of the words
    stays, and so does the answer.
    """

    method: ClassVar[str] = "vector_temperature"
    slope: float
    """Below 1 where the model is too sure."""

    @classmethod
    def _curve(cls, p: FloatArray, target: FloatArray) -> dict[str, Any]:
        from scipy.optimize import minimize_scalar

        def loss(slope: float) -> float:
            return -float((target * np.log(np.maximum(_tempered(p, slope), SMALLEST))).sum())

        return {"slope": float(minimize_scalar(loss, bounds=(0.0, _STEEPEST), method="bounded").x)}  # type: ignore[union-attr]

    def _mapped(self, p: FloatArray) -> FloatArray:
        return _tempered(p, self.slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinalCalibrator(VectorCalibrator):
    """Proportional odds: the log odds of being above each level become slope times as large plus `intercept`.

    McCullagh 1980, "Regression models for ordinal data", with the model's own log odds as the only feature.
    """

    method: ClassVar[str] = "ordinal"
    slope: float
    intercept: float
    level: float = 0.9
    """How often the set of levels around an answer is to hold the true one."""
    reach: float | None = None
    """Probability that such a set must have (see `ordinal_sets`); None: too few examples, every set has all levels."""

    @classmethod
    def _curve(cls, p: FloatArray, target: FloatArray) -> dict[str, Any]:
        from scipy.optimize import minimize

        def loss(found: NDArray) -> float:
            made = _moved(p, float(np.exp(found[0])), float(found[1]))
            return -float((target * np.log(np.maximum(made, SMALLEST))).sum())

        bounds = [(np.log(1e-3), np.log(_STEEPEST)), (-_STEEPEST, _STEEPEST)]
        best = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=bounds).x
        return {"slope": float(np.exp(best[0])), "intercept": float(best[1])}

    def _mapped(self, p: FloatArray) -> FloatArray:
        return _moved(p, self.slope, self.intercept)


def _tempered(p: FloatArray, slope: float) -> FloatArray:
    logs = slope * np.log(np.maximum(p, SMALLEST))
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _moved(p: FloatArray, slope: float, intercept: float) -> FloatArray:
    from scipy.special import expit, logit

    above = p[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    moved = expit(slope * logit(clip(above)) + intercept)
    ends = np.column_stack([np.ones(len(p)), moved, np.zeros(len(p))])
    return ends[:, :-1] - ends[:, 1:]


def _checked(p: ArrayLike, y: ArrayLike | None, k: int) -> tuple[FloatArray, NDArray[np.intp]]:
    probabilities = np.asarray(p, dtype=float)
    truth = np.zeros(len(probabilities), dtype=np.intp) if y is None else np.asarray(y, dtype=np.intp)
    if probabilities.ndim != 2 or probabilities.shape[1] != k or len(probabilities) != len(truth) or not len(truth):
        raise EvaluationError(f"expected probabilities of {k} words and one true word each, got {probabilities.shape}")
    if wrong := int(np.sum(~((probabilities >= 0) & (probabilities <= 1)))):
        raise EvaluationError(f"{wrong} probabilities are missing or outside 0 to 1")
    return probabilities, truth
