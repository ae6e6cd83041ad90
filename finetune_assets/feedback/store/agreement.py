"""How far reviewers agree, beyond what chance alone would make them.

A rejected example counts as an answer of its own, except among numbers: there it is no value, and is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.judging import JUDGEMENTS, meaning
from finetune_assets.feedback.store.schema import items, standings

Value = str | float | None
"""What a reviewer says about an example, so that equal means agreed; None is a rejection."""
Level = Literal["nominal", "interval"]

_RESAMPLES = 1000
_CELLS_AT_ONCE = 2**20
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A coefficient and its 95 % interval: 1 is full agreement, 0 what chance would make."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairAgreement:
    """How far two reviewers agree on what both have judged."""

    reviewers: tuple[str, str]
    n: int
    share: float
    """Of the examples on which they say the same."""
    kappa: Estimate | None
    """Cohen's, for answers that are words; None where one word only was ever said, or answers are no words."""


@dataclass(frozen=True)
class Agreement:
    """How far all reviewers agree."""

    n: int
    """Examples that at least two have judged."""
    alpha: Estimate | None
    """Krippendorff's; None where fewer than two examples were judged twice, or all values are the same."""
    level: Level
    """`interval` for numbers, where a near miss is a smaller disagreement; else `nominal`."""
    pairs: tuple[PairAgreement, ...]


def agreement(db: FeedbackDatabase, task: str, region: str | None = None) -> Agreement:
    """Compare the standing judgements of all reviewers, in one region or in all of the task.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    query = select(standings.c.item, standings.c.reviewer, standings.c.answer, items.c.kind).join_from(standings, items)
    query = query.where(items.c.task == task, standings.c.kind.in_(JUDGEMENTS))
    if region is not None:
        query = query.where(items.c.region == region)
    said: dict[int, dict[str, Value]] = defaultdict(dict)
    kinds = set()
    with db.reading() as connection:
        for item, reviewer, answer, kind in connection.execute(query):
            kinds.add(kind)
            said[item][reviewer] = meaning(answer, kind)
    twice = [values for values in said.values() if len(values) > 1]
    level: Level = "interval" if kinds == {"number"} else "nominal"
    words = not kinds & {"number", "text"}
    return Agreement(
        len(twice), krippendorff_alpha((list(values.values()) for values in twice), level), level, _pairs(twice, words)
    )


def krippendorff_alpha(units: Iterable[Iterable[Value]], level: Level = "nominal", seed: int = 0) -> Estimate | None:
    """Return Krippendorff's alpha, 1 - D_o / D_e, over examples that each were given some values.

    D_o is the mean difference of two values of one example, D_e that of any two values: 0 or 1 for `nominal`, squared
    for `interval`. Examples with one value only say nothing. The interval is of the percentiles of 1,000 resamples of
    whole examples. None where D_e is 0 or there are fewer than two examples.
    (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability")
    """
    values = ([value for value in unit if level == "nominal" or value is not None] for unit in units)
    kept = [unit for unit in values if len(unit) > 1]
    if len(kept) < 2:
        return None
    sums = _nominal(kept) if level == "nominal" else _interval(kept)
    whole = float(_alpha(np.ones((1, len(kept))), sums)[0])
    if np.isnan(whole):
        return None
    rng, at_once = np.random.default_rng(seed), max(1, _CELLS_AT_ONCE // len(kept))
    resampled = []
    for start in range(0, _RESAMPLES, at_once):
        n = min(at_once, _RESAMPLES - start)
        resampled.append(_alpha(_draws(rng, n, len(kept)), sums))
    low, high = np.nanquantile(np.concatenate(resampled), _TAILS)
    return Estimate(whole, float(low), float(high))


@dataclass(frozen=True)
class _Sums:
    """What alpha needs of the examples."""

    sizes: NDArray[np.float64]
    """Values of each example [n]."""
    within: NDArray[np.float64]
    """Sum of the differences of all ordered pairs of values of each example [n]."""
    among: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """The same over the values of all examples, for weights of the examples [b x n]: [b]."""


def _nominal(units: Sequence[Sequence[Value]]) -> _Sums:
    from scipy.sparse import csr_array

    _, code = np.unique([repr(value) for unit in units for value in unit], return_inverse=True)
    example = np.repeat(np.arange(len(units)), [len(unit) for unit in units])
    counts = csr_array((np.ones(len(code)), (example, code)))
    counts.sum_duplicates()
    sizes = counts.sum(axis=1)
    within = sizes**2 - (counts * counts).sum(axis=1)
    return _Sums(sizes, within, lambda weights: (weights @ sizes) ** 2 - ((weights @ counts) ** 2).sum(axis=1))


def _interval(units: Sequence[Sequence[Value]]) -> _Sums:
    values = np.array([value for unit in units for value in unit], dtype=float)
    example = np.repeat(np.arange(len(units)), [len(unit) for unit in units])
    # Differences do not change, and sums of squares of large numbers do not cancel.
    values -= values.mean()
    sizes, sums, squares = (np.bincount(example, power).astype(float) for power in (values**0, values, values**2))

    def among(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = 2 * (weights @ sizes) * (weights @ squares) - 2 * (weights @ sums) ** 2
        # What is left of equal values by rounding is nothing.
        return np.where(whole > 1e-12 * (weights @ sizes) ** 2 * squares.max(initial=0), whole, 0)

    return _Sums(sizes, 2 * sizes * squares - 2 * sums**2, among)


def _alpha(weights: NDArray[np.float64], of: _Sums) -> NDArray[np.float64]:
    """Alpha [b] for weights of the examples [b x n]; NaN where all values are the same."""
    n, among = weights @ of.sizes, of.among(weights)
    observed = weights @ (of.within / (of.sizes - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(among > 0, 1 - (n - 1) * observed / among, np.nan)


def _draws(rng: np.random.Generator, n_resamples: int, n: int) -> NDArray[np.float64]:
    """How often each of n examples is drawn [n_resamples x n], each row adding up to n."""
    return rng.multinomial(n, np.full(n, 1 / n), n_resamples).astype(float)


def _pairs(said: Sequence[Mapping[str, Value]], words: bool) -> tuple[PairAgreement, ...]:
    both: dict[tuple[str, str], list[tuple[Value, Value]]] = defaultdict(list)
    for values in said:
        for pair in combinations(sorted(values), 2):
            both[pair].append((values[pair[0]], values[pair[1]]))
    return tuple(
        PairAgreement(pair, len(values), _share(values), cohens_kappa(values) if words else None)
        for pair, values in sorted(both.items())
    )


def _share(values: Sequence[tuple[Value, Value]]) -> float:
    return sum(a == b for a, b in values) / len(values)


def cohens_kappa(values: Sequence[tuple[Value, Value]]) -> Estimate | None:
    """Return Cohen's kappa of two reviewers' values of the same examples, with its asymptotic interval.

    None where both said one word only, and the same: chance would make that too.
    """
    from statsmodels.stats.inter_rater import cohens_kappa as of_table

    counts = Counter(values)
    words = sorted({word for pair in counts for word in pair}, key=repr)
    if len(words) < 2:
        return None
    # Its test that kappa is 0 divides by 0 where one of the two says one word only.
    with np.errstate(invalid="ignore"):
        found: Any = of_table([[counts[a, b] for b in words] for a in words])
    return Estimate(float(found.kappa), max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp)))
