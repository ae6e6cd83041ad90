"""Whether calibrated probabilities mean what they say in each part: of every option of a choice, and in each subgroup.

A model may be well calibrated on the whole because it is too sure in one part and too careful in another. Every part is
one more chance to find something, so p-values are raised for how many there are (Holm).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_assets.evaluation.calibration.recalibration import recalibrate
from finetune_assets.evaluation.calibration.reliability import calibration_error
from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator
from finetune_assets.evaluation.calibration.vectors import VectorCalibrator
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.shares import accuracy_interval
from finetune_assets.evaluation.statistics import SIGNIFICANCE, FloatArray, Interval, holm

MIN_EXPECTED = 5
"""Events, and examples without one, that the probabilities must let expect for a test to say something."""
MIN_GROUPS = 2
"""Of fewer no interval can be given."""
Groups = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Part:
    """The calibrated probabilities of one option, or in one subgroup of the test split."""

    name: str
    n: int
    claimed: float
    """Mean of the probabilities."""
    happened: Interval
    """Share of examples where the event happened."""
    error: Interval
    """Calibration error."""
    p_value: float | None
    """That they mean what they say, adjusted for the number of parts (Holm); None where too few examples can tell."""

    @property
    def is_off(self) -> bool:
        """Whether they are shown not to mean what they say."""
        return self.p_value is not None and self.p_value < SIGNIFICANCE

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def by_subgroup(p: FloatArray, y: FloatArray, groups: Groups, named: Groups) -> tuple[Part, ...]:
    """Judge p, y [n] of examples in groups [n] apart for each name [n] of a subgroup, the largest first.

    Subgroups of one group of examples say nothing of others and are left out; so is one that all examples share.
    """
    found = {str(name): np.flatnonzero(named == name) for name in np.unique(named.astype(str)) if name}
    parts = {name: at for name, at in found.items() if len(at) < len(p) and len(np.unique(groups[at])) > 1}
    made = _judged({name: (p[at], y[at], groups[at]) for name, at in parts.items()})
    return tuple(sorted(made, key=lambda part: (-part.n, part.name)))


def by_option(
    rows: Sequence[Prediction], options: Sequence[str], calibrator: ScoreCalibrator | VectorCalibrator
) -> tuple[Part, ...]:
    """Judge the probability of each option against all others, in the order of the options.

    Examples whose model told of no probabilities are left out.
    """
    told = [(row, json.loads(row.probabilities)) for row in rows if row.probabilities and row.predicted is not None]
    if len({row.group for row, _ in told}) < MIN_GROUPS:
        return ()
    p = np.array([list(of_options(calibrator, row.predicted or "", given).values()) for row, given in told])
    names = list(told[0][1])
    groups = np.array([row.group for row, _ in told], dtype=object)
    truth = np.array([row.truth for row, _ in told], dtype=object)
    columns = {name: names.index(name) for name in options if name in names}
    return tuple(_judged({name: (p[:, k], (truth == name).astype(float), groups) for name, k in columns.items()}))


def of_options(
    calibrator: ScoreCalibrator | VectorCalibrator, predicted: str, given: Mapping[str, float]
) -> dict[str, float]:
    """Return calibrated probabilities of all options that add up to 1, given the model's own.

    Of a calibrator of single probabilities, the one predicted has its calibrated probability; the others share the rest
    in proportion to the model's own.
    """
    if isinstance(calibrator, VectorCalibrator):
        made = calibrator.apply([[given[name] for name in calibrator.options]])[0].tolist()
        return dict(zip(calibrator.options, made, strict=True))
    own = given[predicted]
    sure = float(calibrator.apply([own])[0])
    others = sum(p for name, p in given.items() if name != predicted)
    share = {
        name: p / others if others > 0 else 1 / max(1, len(given) - 1) for name, p in given.items() if name != predicted
    }
    return {name: sure if name == predicted else (1 - sure) * share[name] for name in given}


def _judged(parts: Mapping[str, tuple[FloatArray, FloatArray, Groups]]) -> list[Part]:
    p_values = {name: _p_value(*part) for name, part in parts.items()}
    tested = [name for name, p in p_values.items() if p is not None]
    adjusted = dict(zip(tested, holm([p_values[name] or 0.0 for name in tested]).tolist(), strict=True))
    return [
        Part(
            name=name,
            n=len(p),
            claimed=float(p.mean()),
            happened=accuracy_interval(y == 1, groups),
            error=calibration_error(p, y, groups),
            p_value=adjusted.get(name),
        )
        for name, (p, y, groups) in parts.items()
    ]


def _p_value(p: FloatArray, y: FloatArray, groups: Groups) -> float | None:
    if min(p.sum(), (1 - p).sum()) < MIN_EXPECTED:
        return None
    found = recalibrate(p, y, groups)
    return found.spiegelhalter_p if found.p_value is None else found.p_value
