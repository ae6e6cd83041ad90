"""Whether what a model is asked in use still looks like what it was judged on.

Of every question a few numbers are taken (its length, its image's size and brightness, the model's score and word), and
of these only counts are kept: how many fell into each bin, where the bins are tenths of the held-out examples. Two rows
of counts are compared by a chi-squared test of homogeneity, raised for the number of features (Holm), and by the
population stability index, which says how much has changed:

    PSI = sum_b (q_b - p_b) * ln(q_b / p_b),

with p and q the shares of bin b among the held-out examples and in use. What is significant among many questions may
still be small, so drift is named only where the index is at least 0.1, which is what is called moderate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from finetune_assets.dataset.images import THUMBNAIL_SIDE, ImageFacts
from finetune_assets.evaluation.shares import design_effect
from finetune_assets.evaluation.statistics import SIGNIFICANCE, FloatArray, Interval, holm, p_words

MODERATE = 0.1
MIN_ASKED = 30
"""Of fewer questions nothing is said."""
N_BINS = 10
N_DRAWS = 2_000
MIN_EXPECTED = 5
"""Where a cell of the table is expected to hold fewer, the chi-squared distribution does not fit: it is simulated."""
UNREADABLE = "(unreadable)"
Counts = NDArray[np.int64]
Seen = Mapping[str, float | str]
"""What is counted of one question, by feature."""
_IN_WORDS = {
    "question_length": "length of the question",
    "image_pixels": "size of the image",
    "image_shape": "shape of the image (width / height)",
    "image_brightness": "brightness of the image",
    "image_contrast": "contrast of the image",
    "score": "the model's own score",
    "answer": "the model's answer",
    "number": "the number answered",
}


@dataclass(frozen=True, slots=True)
class Feature:
    """How one feature is spread among the held-out examples."""

    edges: tuple[float, ...] | None
    """Between the bins, ascending; None of words and of numbers that take few values."""
    values: tuple[str | float, ...] | None
    """One bin for each, and a last one for all others; None where there are edges."""
    counts: tuple[int, ...]
    """Held-out examples in each bin."""
    effect: float
    """How many of them tell as much as one that shares no group (design effect, averaged over the bins)."""

    @classmethod
    def of(cls, found: Sequence[float | str], groups: Sequence[str]) -> Self:
        """Make the bins of what was found [n] of examples in groups [n]."""
        distinct = sorted(set(found), key=lambda value: (isinstance(value, str), value))
        edges, values = None, None
        if isinstance(found[0], str) or len(distinct) <= N_BINS:
            values = tuple(distinct)
        else:
            tenths = np.quantile(np.asarray(found, dtype=float), np.arange(1, N_BINS) / N_BINS)
            edges = tuple(np.unique(tenths).tolist())
        bins = cls(edges, values, (), 1.0)
        places = np.array([bins.place(value) for value in found])
        counts = np.bincount(places, minlength=bins.n_bins)
        return cls(edges, values, tuple(counts.tolist()), _mean_effect(places, counts, groups))

    @property
    def n_bins(self) -> int:
        """How many bins there are."""
        return len(self.edges or ()) + 1 if self.values is None else len(self.values) + 1

    def place(self, value: float | str) -> int:
        """Return the bin of a value."""
        if self.values is None:
            return int(np.searchsorted(np.array(self.edges), float(value), side="right"))
        return self.values.index(value) if value in self.values else len(self.values)


@dataclass(frozen=True, slots=True)
class Reference:
    """How the held-out examples look: what a model was judged on, and what its use is compared with."""

    n: int
    features: Mapping[str, Feature]

    @classmethod
    def of(cls, seen: Sequence[Seen], groups: Sequence[str]) -> Self:
        """Count what was seen of examples [n] in groups [n]; a feature that some lack is that of the others."""
        names = dict.fromkeys(name for one in seen for name in one)
        features = {}
        for name in names:
            having = [(one[name], group) for one, group in zip(seen, groups, strict=True) if name in one]
            features[name] = Feature.of([value for value, _ in having], [group for _, group in having])
        return cls(len(seen), features)

    def places(self, seen: Seen) -> dict[str, int]:
        """Return the bin of each feature of a question; features that are not known here are left out."""
        return {name: self.features[name].place(value) for name, value in seen.items() if name in self.features}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        features = {
            name: Feature(
                edges=None if one["edges"] is None else tuple(one["edges"]),
                values=None if one["values"] is None else tuple(one["values"]),
                counts=tuple(one["counts"]),
                effect=one["effect"],
            )
            for name, one in data["features"].items()
        }
        return cls(data["n"], features)


@dataclass(frozen=True, slots=True)
class Shift:
    """One feature in use beside the same feature of the held-out examples."""

    feature: str
    n_reference: int
    n_asked: int
    index: Interval
    """Population stability index, less what chance alone adds to it, with its interval; 0 is no shift."""
    p_value: float
    """Of the test that both are alike, raised for the number of features (Holm)."""

    @property
    def is_drift(self) -> bool:
        """Whether it is shown to have shifted, and by as much as matters."""
        return self.p_value < SIGNIFICANCE and self.index.estimate >= MODERATE

    def __str__(self) -> str:
        index = f"{self.index.estimate:.2f} ({self.index.low:.2f} to {self.index.high:.2f})"
        return f"{_IN_WORDS.get(self.feature, self.feature)}: stability index {index}, {p_words(self.p_value)}"


def features_of(question: str | None, facts: ImageFacts | None) -> dict[str, float | str]:
    """Return what is counted of a question: numbers from which nobody can tell what was asked."""
    found: dict[str, float | str] = {} if question is None else {"question_length": float(len(question))}
    if facts is None:
        return found
    grey = np.frombuffer(facts.thumbnail, np.uint8)[: THUMBNAIL_SIDE**2].astype(float)
    return found | {
        "image_pixels": float(facts.width * facts.height),
        "image_shape": facts.width / facts.height,
        "image_brightness": float(grey.mean()),
        "image_contrast": float(grey.std()),
    }


def features_of_answer(word: str | None, score: float | None, number: float | None) -> dict[str, float | str]:
    """Return what is counted of a model's answer: its word among the task's, its score, its number."""
    found: dict[str, float | str] = {} if word is None else {"answer": word}
    found |= {} if score is None else {"score": score}
    return found | ({} if number is None else {"number": number})


def compare(reference: Reference, asked: Mapping[str, Mapping[int, int]], seed: int = 0) -> list[Shift]:
    """Compare what was asked in use, counts by feature and bin, with the held-out examples; the largest shift first.

    Features of which fewer than `MIN_ASKED` values were counted are left out.
    """
    pairs: dict[str, tuple[Counts, Counts, float]] = {}
    for name, feature in reference.features.items():
        counts: Counts = np.array([asked.get(name, {}).get(place, 0) for place in range(feature.n_bins)])
        if counts.sum() >= MIN_ASKED:
            pairs[name] = np.array(feature.counts), counts, feature.effect
    rng = np.random.default_rng(seed)
    p_values = holm([_p_value(known, counts, effect, rng) for known, counts, effect in pairs.values()])
    shifts = [
        Shift(name, int(known.sum()), int(counts.sum()), _index(known, counts, effect, rng), p)
        for (name, (known, counts, effect)), p in zip(pairs.items(), p_values.tolist(), strict=True)
    ]
    return sorted(shifts, key=lambda shift: -shift.index.estimate)


def stability_index(known: FloatArray, asked: FloatArray) -> FloatArray:
    """Return the index of counts [... x bins]; half an example is added to each bin, so that none is empty."""
    p, q = known + 0.5, asked + 0.5
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    return np.sum((q - p) * np.log(q / p), axis=-1)


def _index(known: Counts, asked: Counts, effect: float, rng: np.random.Generator) -> Interval:
    """Return the index without what chance adds, which is about (bins - 1) * (1/n + 1/m), and its bootstrap interval.

    Draws are of as many held-out examples as tell as much as these do.
    """
    effective = known / effect
    n, m = float(effective.sum()), int(asked.sum())
    by_chance = (np.count_nonzero(known + asked) - 1) * (1 / n + 1 / m)
    estimate = max(0.0, float(stability_index(effective, asked.astype(float))) - by_chance)
    drawn = stability_index(
        rng.multinomial(max(1, round(n)), (known + 0.5) / (known + 0.5).sum(), N_DRAWS).astype(float),
        rng.multinomial(m, (asked + 0.5) / (asked + 0.5).sum(), N_DRAWS).astype(float),
    )
    # A draw from what was drawn already adds what chance adds a second time.
    low, high = np.maximum(0.0, np.quantile(drawn, [0.025, 0.975]) - 2 * by_chance)
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def _p_value(known: Counts, asked: Counts, effect: float, rng: np.random.Generator) -> float:
    """Return the p-value of Pearson's chi-squared test that both rows of counts are of one spread.

    Where examples share groups the statistic is divided by their design effect (Rao and Scott 1981), which can only
    take too little for shown, as the questions in use are taken to share none.
    """
    from scipy.stats import chi2, random_table

    table = np.stack([known, asked])[:, (known + asked) > 0]
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if len(columns) < 2:
        return 1.0
    expected = np.outer(rows, columns) / rows.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    if expected.min() >= MIN_EXPECTED:
        return float(chi2.sf(statistic / effect, len(columns) - 1))
    drawn = random_table(rows, columns, seed=rng).rvs(N_DRAWS, method="patefield")
    statistics = effect * ((drawn - expected) ** 2 / expected).sum(axis=(1, 2))
    return float((1 + np.sum(statistics >= statistic - 1e-9)) / (1 + N_DRAWS))


def _mean_effect(places: NDArray[np.intp], counts: Counts, groups: Sequence[str]) -> float:
    """Return the design effect of the shares of the bins, averaged over them by their variance; at least 1."""
    members, shares = np.array(groups, dtype=object), counts / counts.sum()
    weights = shares * (1 - shares)
    if len(set(groups)) in (1, len(groups)) or weights.sum() == 0:
        return float(len(groups)) if len(set(groups)) == 1 and len(groups) > 1 else 1.0
    effects = [design_effect((places == place).astype(float), members)[0] for place in range(len(counts))]
    return max(1.0, float(np.average(effects, weights=weights)))
