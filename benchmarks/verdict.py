"""Claim: the promotion policy is not fooled by chance, by many attempts, by many regions or by small steps downhill.

Benchmarks are drawn from models whose true accuracy is known, and judged by the policy that the pipeline uses:

    PYTHONPATH=. python benchmarks/verdict.py [--runs 1000]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from finetune_assets.evaluation.benchmark.both_labels import unchosen
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.pairing import Gain, Pairs, gain
from finetune_assets.evaluation.benchmark.report import BenchmarkReport, ChampionComparison
from finetune_assets.evaluation.calibration import judge_probabilities
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.promotion_policy import Counted, gain_p, judge, raised
from finetune_assets.evaluation.scoring.binary import BinaryScoring
from finetune_assets.task.judging import Promotion
from finetune_assets_tests.evaluation.experiments import binary

Right = NDArray[np.bool_]
SCORING, POLICY = BinaryScoring(), Promotion(margin=0.02)
EVEN = np.full(20, 0.5)
HARMLESS = judge_probabilities(EVEN, EVEN, np.arange(20) % 2)
KEEP = 0.75
"""Share of examples that a model finds as easy or as hard as the one before it did."""


def answers(rng: np.random.Generator, hardness: NDArray[np.float64], accuracy: float) -> Right:
    """Whether a model is right on each example [n]; models are mostly right on the same, easy ones."""
    own = np.where(rng.random(len(hardness)) < KEEP, hardness, rng.random(len(hardness)))
    return own < accuracy


def compared(before: Right, after: Right) -> Gain:
    """Compare two models on examples that stand alone."""
    return gain(SCORING, before, after, np.arange(len(before)))


def report(base: Right, constant: Right, tuned: Right, best: Right | None = None) -> BenchmarkReport:
    """A benchmark's report, with what the policy reads of it as it was drawn."""
    over_base, over_constant = compared(base, tuned), compared(constant, tuned)
    return replace(
        usual(),
        n=len(base),
        comparisons={usual().primary: replace(usual().decisive, difference=over_base.difference)},
        p_value=over_base.p_value,
        over_baseline=over_constant.difference,
        baseline_p=over_constant.p_value,
        over_champion=None if best is None else over(best, tuned),
    )


@cache
def usual() -> BenchmarkReport:
    """The report of a few answers."""
    return compare(binary(0.5, 0.9).draw(np.random.default_rng(0), 10, 1))


def over(best: Right, tuned: Right) -> ChampionComparison:
    """Compare a model with the best champion before it."""
    found = compared(best, tuned)
    return ChampionComparison(
        champion=usual().base,
        n=found.n,
        n_by_source=0,
        difference=found.difference,
        p_value=found.p_value,
        outcome=found.outcome,
        verdict="",
        subgroups=(),
    )


def promoted(found: BenchmarkReport, counted: Counted) -> bool:
    """Whether the model becomes the champion."""
    return all(reason.good for reason in judge(POLICY, found, HARMLESS, counted))


def called_worse(rng: np.random.Generator, n: int = 1000) -> bool:
    """Whether an equally good successor is called worse than the champion."""
    hardness = rng.random(n)
    champion, successor = answers(rng, hardness, 0.85), answers(rng, hardness, 0.85)
    return compared(champion, successor).outcome == "worse"


def called_worse_after_review(rng: np.random.Generator, n: int = 1000, wrong: float = 0.08) -> bool:
    """Whether it is, where the champion's denials of a source with wrong labels were reviewed, and its own were not."""
    hardness, source = rng.random(n), rng.random(n) >= wrong
    champion, successor = (answers(rng, hardness, 0.85) == source for _ in range(2))
    corrected = ~source & ~champion

    def rows(agrees: Right) -> list[Prediction]:
        """The source says Yes to everything."""
        return [
            Prediction(
                example_id=str(k),
                split="test",
                role="",
                model="",
                truth="No" if corrected[k] else "Yes",
                text=None,
                predicted="Yes" if agrees[k] else "No",
                group=str(k),
                question="",
                source_truth="Yes",
                reviewed_in=None if champion[k] else "contested",
            )
            for k in range(n)
        ]

    pairs, _ = unchosen(Pairs(rows(champion), rows(successor)))
    before, after = (SCORING.score(side).right == 1 for side in (pairs.before, pairs.after))
    return compared(before, after).outcome == "worse"


def worse_replaces(rng: np.random.Generator, n: int = 400) -> bool:
    """Whether a model 5 points worse takes the champion's place at a margin of 2 points."""
    hardness = rng.random(n)
    base, constant = answers(rng, hardness, 0.5), rng.random(n) < 0.6
    champion, successor = answers(rng, hardness, 0.85), answers(rng, hardness, 0.8)
    return promoted(report(base, constant, successor, champion), Counted(2))


def after_eight_steps(rng: np.random.Generator, n: int = 400) -> float:
    """True accuracy of the champion after eight successors, each 2 points worse than the one before it, from 0.85."""
    hardness = rng.random(n)
    base, constant = answers(rng, hardness, 0.5), rng.random(n) < 0.6
    best = answers(rng, hardness, 0.85)
    reached = 0.85
    for step in range(1, 9):
        accuracy = 0.85 - 0.02 * step
        successor = answers(rng, hardness, accuracy)
        found = report(base, constant, successor, best)
        if promoted(found, Counted(step + 1)):
            reached = accuracy
            before = found.best_before
            best = successor if before and before.difference.estimate >= 0 else best
    return reached


def twenty_looks(rng: np.random.Generator, n: int = 160) -> bool:
    """Whether any of twenty models without gain over their base becomes the champion."""
    hardness = rng.random(n)
    base, constant = answers(rng, hardness, 0.8), rng.random(n) < 0.5
    found = (report(base, constant, answers(rng, hardness, 0.8)) for _ in range(20))
    return any(promoted(one, Counted(look)) for look, one in enumerate(found, 1))


def twenty_regions(rng: np.random.Generator, n: int = 160) -> bool:
    """Whether any of twenty regions without gain gets a champion, each judged once all others are."""
    reports = []
    for _ in range(20):
        hardness = rng.random(n)
        reports.append(report(answers(rng, hardness, 0.8), rng.random(n) < 0.5, answers(rng, hardness, 0.8)))
    p_values = [raised(gain_p(one, []), 1) for one in reports]
    return any(promoted(one, Counted(1, tuple(p_values[:k] + p_values[k + 1 :]))) for k, one in enumerate(reports))


def mean(what: Callable[[np.random.Generator], float], runs: int, seed: int) -> float:
    """Mean of what is drawn so many times."""
    return float(np.mean([what(np.random.default_rng([seed, run])) for run in range(runs)]))


def main() -> None:
    """Draw, print and judge each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="Benchmarks, or series of them, for each claim.")
    runs = parser.parse_args().runs
    claims: list[tuple[str, Callable[[np.random.Generator], float], float, bool]] = [
        ("an equal successor is called worse (n = 1000)", called_worse, 0.04, True),
        ("a model 5 points worse replaces the champion (n = 400)", worse_replaces, 0.05, True),
        ("true accuracy after eight steps of -2 points from 0.85 (n = 400)", after_eight_steps, 0.83, False),
        ("twenty attempts without gain give a champion (n = 160)", twenty_looks, 0.05, True),
        ("twenty regions without gain give a champion (n = 160)", twenty_regions, 0.05, True),
        (
            "an equal successor is called worse after the champion's contests (n = 1000)",
            called_worse_after_review,
            0.04,
            True,
        ),
    ]
    held = []
    for seed, (words, what, limit, at_most) in enumerate(claims):
        found = mean(what, runs, seed)
        held.append(found <= limit if at_most else found > limit)
        print(f"{words}: {found:.4f} ({'at most' if at_most else 'above'} {limit}) {'ok' if held[-1] else 'MISSED'}")
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
