"""Numbers far outside the region's own, found robustly: by the median and the median absolute deviation (MAD).

Prices and most other quantities spread by factors, not by differences, so where nearly all numbers are positive they
are compared by their logarithms. A number is an outlier if it lies more than five standard deviations from the median.
A standard deviation is taken as 1.4826 MAD, which it is for a normal distribution, and as many wild numbers as there
may be hardly move it (Iglewicz and Hoaglin 1993); the MAD is that of the numbers on the same side of the median,
because what is usual often reaches farther on one side than on the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MIN_NUMBERS = 30
"""Fewer tell too little of what is usual."""
_DEVIATIONS = 5.0
_MAD_TO_STANDARD_DEVIATION = 1.4826
_POSITIVE_SHARE = 0.99
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What is usual in a region."""

    low: float = -math.inf
    high: float = math.inf
    median: float = math.nan

    def fault(self, value: float) -> str | None:
        """Say why a number is an outlier, or None."""
        if self.low <= value <= self.high:
            return None
        usual = f"from {self.low:.4g} to {self.high:.4g} is usual"
        return f"{value:g} is far from the others: their median is {self.median:.4g}, {usual}"


def limits(values: np.ndarray) -> Limits:
    """Find the limits of usual numbers; none for fewer than 30, or where most on one side of the median equal it.

    Args:
        values: Numbers, [n]; NaN is passed over.
    """
    known = values[np.isfinite(values)]
    if len(known) < MIN_NUMBERS:
        return Limits()
    logarithmic = (known > 0).mean() >= _POSITIVE_SHARE
    scaled = np.log(known[known > 0]) if logarithmic else known
    median = float(np.median(scaled))
    reach = _DEVIATIONS * _MAD_TO_STANDARD_DEVIATION
    low = median - reach * float(np.median(median - scaled[scaled <= median]))
    high = median + reach * float(np.median(scaled[scaled >= median] - median))
    if low == median or high == median:
        return Limits()
    if not logarithmic:
        return Limits(low, high, median)
    return Limits(math.exp(low), math.exp(min(high, _LARGEST_EXPONENT)), math.exp(median))
