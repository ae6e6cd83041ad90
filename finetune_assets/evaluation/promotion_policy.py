"""Whether a region's newest model may become its champion: every question that its task's policy asks, and its answer.

A model has to be better than its base model and than one answer to everything, and not worse than the best champion so
far: against the last one alone, eight steps of two points would lead sixteen points down. Each attempt and each region
is one more chance to find a gain where there is none, so both are counted (see `attempts` and `raised`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from finetune_assets.evaluation.statistics import Interval, holm, p_words
from finetune_assets.task.judging import Promotion

if TYPE_CHECKING:
    from finetune_assets.evaluation.benchmark.report import BenchmarkReport
    from finetune_assets.evaluation.benchmark.subgroups import Subgroup
    from finetune_assets.evaluation.calibration import CalibrationReport, CoverageReport


@dataclass(frozen=True, slots=True)
class Reason:
    """One question about the model, and what was found."""

    question: str
    good: bool
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Counted:
    """How often a gain was looked for."""

    attempt: int = 1
    """Which of the region's models this is, from 1."""
    others: tuple[float, ...] = ()
    """What `raised` makes of the p-values of the task's other regions; those that were not judged yet count as 1."""

    def adjusted(self, p_value: float) -> float:
        """Return a p-value, raised for the attempts before it and for the other regions (Holm)."""
        return float(holm([raised(p_value, self.attempt), *self.others])[0])


def raised(p_value: float, attempt: int) -> float:
    """Return the p-value of a region's k-th model, times k^2 * pi^2 / 6.

    These factors' inverses add up to 1, so that however many models are tried, the chance that any of them is taken
    for better without being so stays below the level (Bonferroni with unequal weights, spending most on the first).
    """
    return min(1.0, p_value * attempt**2 * math.pi**2 / 6)


def gain_p(benchmark: BenchmarkReport, ignored: Collection[str]) -> float:
    """Return the p-value that a model gains nothing: the larger one of those over its base and over a constant answer.

    1 where it is no better than one of them. The base model does not count where the check `better_than_base` is off.
    """
    over = [(benchmark.over_baseline.estimate, benchmark.baseline_p)]
    if "better_than_base" not in ignored:
        over.append((benchmark.decisive.difference.estimate, benchmark.p_value))
    return max(p_value if estimate > 0 else 1.0 for estimate, p_value in over)


def judge(
    policy: Promotion,
    benchmark: BenchmarkReport,
    calibration: CalibrationReport | CoverageReport,
    counted: Counted,
    *,
    limits: tuple[float, float] = (1.0, 1.0),
    ignored: Collection[str] = (),
) -> tuple[Reason, ...]:
    """Ask everything that the policy asks.

    Args:
        policy: The task's.
        benchmark: Report of the region's newest model.
        calibration: Report of its calibrator.
        counted: How often a gain was looked for.
        limits: Largest shares of failed requests and of unreadable answers.
        ignored: Names of checks that the task has switched off.
    """
    asked = [
        _answers(benchmark, limits, ignored),
        *_gains(policy, benchmark, counted, ignored),
        _against_the_best(policy, benchmark),
        _subgroups(benchmark) if policy.subgroups else None,
        _forgotten(benchmark) if policy.forgetting and "nothing_forgotten" not in ignored else None,
        _calibration(calibration) if "calibration_helps" not in ignored else None,
    ]
    return tuple(reason for reason in asked if reason)


def _answers(benchmark: BenchmarkReport, limits: tuple[float, float], ignored: Collection[str]) -> Reason | None:
    if "answers_given" in ignored:
        return None
    n, failed, unread = benchmark.n, benchmark.fine_tuned.n_failed, benchmark.fine_tuned.n_unparseable
    good = failed <= limits[0] * n and unread <= limits[1] * n
    return Reason("Does it answer?", good, f"{failed} of {n} requests failed, {unread} answers could not be read")


def _gains(policy: Promotion, benchmark: BenchmarkReport, counted: Counted, ignored: Collection[str]) -> list[Reason]:
    """Judge the gains over the base model and over a constant, each at the level that is left for it."""
    over = [("one answer to everything", benchmark.over_baseline, benchmark.baseline_p)]
    if "better_than_base" not in ignored:
        over.insert(0, ("its base model", benchmark.decisive.difference, benchmark.p_value))
    found = []
    for what, difference, p_value in over:
        adjusted = counted.adjusted(p_value)
        good = difference.estimate > 0 and difference.low > 0 and adjusted < policy.alpha
        n_regions = len(counted.others) + 1
        of = f" as attempt {counted.attempt} in one of {n_regions} region{'' if n_regions == 1 else 's'}"
        shown = "it is better than" if good else "it is not shown to be better than"
        words = f"{shown} {what}: {_points(difference)}, {p_words(p_value)}; {p_words(adjusted)}{of}"
        found.append(Reason(f"Is it better than {what}?", good, words))
    return found


def _against_the_best(policy: Promotion, benchmark: BenchmarkReport) -> Reason | None:
    """Judge whether the model is shown to be at most the margin worse than the best champion so far."""
    best = benchmark.best_before
    if best is None:
        return None
    difference, margin = best.difference, policy.margin
    good = difference.low > -margin
    shown = "it is" if good else "it is not shown to be"
    words = f"{shown} at most {100 * margin:g} points worse than the best champion so far: {_points(difference)}"
    if not good:
        words += _examples_for(margin, difference, best.n)
    if best.n_by_source:
        so_many = f"{best.n_by_source} corrected labels"
        words += f"; {so_many} count as the source has them until its own denials are reviewed"
    return Reason("Does it keep what the best champion reached?", good, words)


def _examples_for(margin: float, difference: Interval, n: int) -> str:
    """Say how many examples would show it of an equal model four times out of five."""
    from scipy.special import ndtri

    half = float(ndtri(0.975))
    error = (difference.high - difference.low) / (2 * half)
    needed = n * ((half + float(ndtri(0.8))) * error / margin) ** 2
    return f"; of an equal model about {math.ceil(needed):,} test examples would show it, and there are {n:,}"


def _subgroups(benchmark: BenchmarkReport) -> Reason | None:
    best = benchmark.best_before
    compared: list[tuple[str, Sequence[Subgroup]]] = [
        ("the base model", benchmark.subgroups),
        ("the best champion", best.subgroups if best else ()),
    ]
    lost = [
        f"{part.name} (than {what}: {_points(part.difference)}, {p_words(part.p_value)})"
        for what, parts in compared
        for part in parts
        if part.outcome == "worse"
    ]
    if not any(parts for _, parts in compared):
        return None
    words = f"it is worse in {', '.join(lost)}" if lost else "it is worse in none"
    return Reason("Is any subgroup worse off?", not lost, words)


def _forgotten(benchmark: BenchmarkReport) -> Reason | None:
    if not benchmark.elsewhere:
        return None
    lost = [f"{one.of} ({_points(one.difference)})" for one in benchmark.elsewhere if one.outcome == "worse"]
    words = f"it has forgotten {', '.join(lost)}" if lost else "it is not shown to have forgotten anything"
    return Reason("Has it forgotten anything?", not lost, words)


def _calibration(calibration: CalibrationReport | CoverageReport) -> Reason:
    good = calibration.outcome != "worse"
    words = "its calibrator does no harm" if good else f"its calibrator makes it worse: {calibration.verdict}"
    return Reason("Do its probabilities mean something?", good, words)


def _points(difference: Interval) -> str:
    estimate, low, high = (100 * end for end in (difference.estimate, difference.low, difference.high))
    return f"{estimate:+.1f} points ({low:+.1f} to {high:+.1f})"
