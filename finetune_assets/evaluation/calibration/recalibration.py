"""Whether probabilities mean what they say, tested and not only measured.

The calibration error says how far off they are, and needs many examples to be sure of it; these tests need far fewer,
because they look for what goes wrong in practice: probabilities too sure, not sure enough, too high or too low.
Arrays are p [n], the probability of an event, and y [n], whether it happened, in groups [n].
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.evaluation.calibration.reliability import checked, clip
from finetune_assets.evaluation.shares import design_effect
from finetune_assets.evaluation.statistics import SIGNIFICANCE, FloatArray, Interval, p_words

_LEAST_OF_EITHER = 5
"""Of fewer events, or fewer examples without one, a slope says nothing."""
_LEAST_APART = 0.01
"""Log odds between the lowest and the highest probability, below which they are one number to everybody."""


@dataclass(frozen=True, slots=True)
class Recalibration:
    """The logistic regression of events on the log odds of their probabilities: slope 1 and intercept 0 are perfect."""

    slope: Interval | None
    """Below 1 the probabilities are too sure, above 1 not sure enough; None where it cannot be told."""
    intercept: Interval | None
    """In log odds, at slope 1: above 0 the probabilities are too low on the whole, below 0 too high; None as above."""
    p_value: float | None
    """Of the likelihood ratio test that slope and intercept are 1 and 0; None as above."""
    spiegelhalter_z: float
    """Sum of (y - p)(1 - 2p) over its standard deviation, if p means what it says: beyond 2 it hardly does."""
    spiegelhalter_p: float

    @property
    def is_off(self) -> bool:
        """Whether the probabilities are shown not to mean what they say."""
        return (self.spiegelhalter_p if self.p_value is None else self.p_value) < SIGNIFICANCE

    def __str__(self) -> str:
        if self.slope is None or self.intercept is None or self.p_value is None:
            why = "too few examples of one kind, or probabilities too much alike, for a slope"
            return f"{why}; Spiegelhalter's z = {self.spiegelhalter_z:.1f}"
        found = [
            *(["too sure"] if self.slope.high < 1 else ["not sure enough"] if self.slope.low > 1 else []),
            *(["too low"] if self.intercept.low > 0 else ["too high"] if self.intercept.high < 0 else []),
        ]
        words = " and ".join(found) if self.is_off and found else "off" if self.is_off else "not shown to be off"
        slope = f"slope {self.slope.estimate:.2f} ({self.slope.low:.2f} to {self.slope.high:.2f})"
        return f"{words}: {slope}, {p_words(self.p_value)}"


def recalibrate(p: ArrayLike, y: ArrayLike, groups: ArrayLike) -> Recalibration:
    """Test p, y [n] of examples in groups [n].

    Where examples share groups, they count as so many fewer as they tell less (`design_effect` of y - p).

    Raises:
        EvaluationError: what `checked` raises.
    """
    from scipy.special import logit, ndtr

    probabilities, events = checked(p, y)
    effect, _ = design_effect(events - probabilities, groups)
    kept = clip(probabilities)
    variance = float(np.sum((1 - 2 * kept) ** 2 * kept * (1 - kept))) * effect
    z = float(np.sum((events - kept) * (1 - 2 * kept))) / np.sqrt(variance) if variance > 0 else 0.0
    spiegelhalter = float(z), float(2 * ndtr(-abs(z)))
    odds = logit(kept)
    if min(events.sum(), (1 - events).sum()) < _LEAST_OF_EITHER or np.ptp(odds) < _LEAST_APART:
        return Recalibration(None, None, None, *spiegelhalter)
    fitted = _fitted(odds, events, max(1.0, effect))
    return Recalibration(*(fitted or (None, None, None)), *spiegelhalter)


def _fitted(odds: FloatArray, y: FloatArray, effect: float) -> tuple[Interval, Interval, float] | None:
    """Fit slope and intercept; None where the events are told apart so well that there is no largest likelihood."""
    import statsmodels.api as sm
    from scipy.special import ndtri
    from scipy.stats import chi2
    from statsmodels.genmod.families import Binomial

    design = sm.add_constant(odds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            both = sm.GLM(y, design, family=Binomial()).fit()
            shifted = sm.GLM(y, design[:, :1], family=Binomial(), offset=odds).fit()
        except (Warning, np.linalg.LinAlgError, ValueError):
            return None
    likelihood = float(np.sum(y * odds - np.logaddexp(0, odds)))
    reach = float(ndtri(0.975)) * np.sqrt(effect)
    slope, intercept = (
        Interval(float(value), float(value - reach * error), float(value + reach * error))
        for value, error in ((both.params[1], both.bse[1]), (shifted.params[0], shifted.bse[0]))
    )
    statistic = max(0.0, 2 * (float(both.llf) - likelihood) / effect)
    return slope, intercept, float(chi2.sf(statistic, 2))
