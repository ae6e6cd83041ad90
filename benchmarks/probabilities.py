"""Claim: what is said of probabilities holds: the promise of answers without a person, and whether a model is too sure.

Models are drawn whose true probabilities are known:

    python benchmarks/probabilities.py [--runs 1000]

The usual 1,000 draws for each claim take three to four minutes.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from finetune_assets.evaluation import deferral
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.recalibration import recalibrate
from finetune_assets.evaluation.calibration.reliability import calibration_error
from finetune_assets.task.judging import Defer

FloatArray = NDArray[np.float64]
OVERSURE = 2.5


def scores(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """A good but oversure model's probabilities [n], and the true ones."""
    odds = rng.normal(0, 4, n)
    return expit(2 * odds + rng.normal(0, 0.3, n)), expit(odds)


def answered(p: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How sure each answer is, and whether it is right, or how probably where y is a probability."""
    return np.maximum(p, 1 - p), np.where(p >= 0.5, y, 1 - y)


def promises(runs: int, asked: Defer, n: int) -> bool:
    """Choose thresholds on so many calibration splits; look at their true accuracy."""
    many, truth = scores(np.random.default_rng(0), 20_000)
    kept, share = np.zeros((2, runs)), np.zeros((2, runs))
    for run in range(runs):
        rng = np.random.default_rng([1, run])
        p, true = scores(rng, n)
        y = (rng.random(n) < true).astype(float)
        calibrator = PlattCalibrator.fit(p, y, model="m")
        sure, right = answered(calibrator.apply(p), y)
        all_sure, all_right = answered(calibrator.apply(many), truth)
        guaranteed = deferral.choose(asked, sure, right, np.arange(n).astype(object))
        for way, threshold in enumerate((guaranteed, deferral.unproved(asked, sure, right))):
            given = all_sure >= threshold
            kept[way, run] = not given.any() or all_right[given].mean() >= asked.target_accuracy
            share[way, run] = given.mean()
    held, unproved = kept.mean(axis=1)
    print(
        f"{100 * asked.target_accuracy:g} % right promised with {100 * asked.confidence:g} % confidence "
        f"(n = {n}, {runs} splits): kept in {100 * held:.1f} %, {100 * share[0].mean():.0f} % answered; without a "
        f"guarantee kept in {100 * unproved:.1f} %, {100 * share[1].mean():.0f} % answered"
    )
    return bool(held >= asked.confidence)


def calibration(runs: int, n: int, sure: float) -> bool:
    """Look at the calibration error's interval, and at whether an oversure model is named."""
    rng = np.random.default_rng(2)
    odds = rng.normal(0.5, 1.3, 400_000)
    claimed = expit(sure * odds)
    bins = np.searchsorted(np.quantile(claimed, np.arange(0.1, 1, 0.1)), claimed, side="right")
    gaps = [float((expit(odds) - claimed)[bins == b].mean()) for b in range(10)]
    true = float(np.sqrt(np.mean(np.square(gaps))))
    found, named = [], 0
    for run in range(runs):
        draw = np.random.default_rng([3, run])
        p = expit(draw.normal(0.5, 1.3, n))
        y = (draw.random(n) < p).astype(float)
        said = expit(sure * logit(p))
        found.append(calibration_error(said, y))
        named += recalibrate(said, y, np.arange(n)).is_off
    held = float(np.mean([one.low <= true + 0.002 and true <= one.high for one in found]))
    low, high = np.quantile([one.estimate for one in found], [0.025, 0.975])
    width = float(np.mean([one.high - one.low for one in found])) / (high - low)
    print(
        f"{sure:g} times as sure as right (n = {n}, {runs} draws): the calibration error's interval holds {true:.3f} "
        f"in {100 * held:.1f} % and is {width:.2f} times as wide as its estimates scatter; called off in "
        f"{100 * named / runs:.1f} %"
    )
    usual = named / runs <= 0.07 if sure == 1 else named / runs >= 0.95 if sure == OVERSURE else True
    return held >= 0.93 and width <= 1.25 and usual


def main() -> None:
    """Draw, print and judge each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="Draws for each claim.")
    runs = parser.parse_args().runs
    held = [promises(runs, Defer(target_accuracy=target), n) for target, n in ((0.98, 600), (0.95, 300))]
    held += [calibration(runs, n, sure) for n in (160, 400) for sure in (1.0, 1.5, OVERSURE)]
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
