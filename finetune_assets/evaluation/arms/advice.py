"""Which arm to take, in words that say no more than the numbers do, and what it would take to say something else.

The arm that is right most often is taken, unless a cheaper one is shown not to be worse by more than the margin: its
95 % interval has to say so. That a difference is not shown is no reason to take the cheaper one; few examples show
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from finetune_assets.evaluation.arms.result import ArmResult, Pair, Ranked
from finetune_assets.evaluation.sample_size import POWER, needed_examples
from finetune_assets.evaluation.statistics import FloatArray, p_words


@dataclass(frozen=True, slots=True)
class Advice:
    """One recommendation."""

    arm: str
    """Its name."""
    words: str
    changes: tuple[str, ...]
    """What would change it, a sentence each."""


def advise(
    standing: Ranked,
    with_people: Sequence[ArmResult],
    scores: Mapping[str, FloatArray],
    groups: Sequence[str],
    margin: float,
) -> Advice:
    """Recommend one arm.

    Args:
        standing: The arms by the deciding metric.
        with_people: Cascades to a person; recommended beside an arm, where its own answers are better.
        scores: Of each arm's answers to the same examples [n], by its name.
        groups: Of the examples [n].
        margin: By how much a cheaper arm may be worse.
    """
    first = standing.arms[0]
    taken = next((arm for arm in _cheaper(standing, first) if _is_close(standing.behind(arm.name), margin)), first)
    words = [f"Take {taken.name} ({taken.how}): {_value(standing.label, taken)} on {taken.n:,} test examples."]
    if taken is not first and (pair := standing.behind(taken.name)) is not None:
        words.append(
            f"{first.name} has {100 * pair.difference.estimate:.1f} points more, but costs {_usd(first)} per 1,000 "
            f"answers where {taken.name} costs {_usd(taken)}, and {taken.name} is shown to be at most "
            f"{100 * margin:g} points worse ({100 * pair.difference.high:.1f} at most)."
        )
    words += _proved(standing, taken)
    words += [_people(arm, first, standing.label.lower()) for arm in with_people]
    return Advice(taken.name, " ".join(words), tuple(_changes(standing, taken, scores, groups, margin)))


def _cheaper(standing: Ranked, first: ArmResult) -> list[ArmResult]:
    """Return the arms that are known to be cheaper than the first, the cheapest first."""
    if first.usd_per_1000 is None:
        return []
    known = [(arm.usd_per_1000, arm) for arm in standing.arms if arm.usd_per_1000 is not None]
    return [arm for usd, arm in sorted(known, key=lambda pair: pair[0]) if usd < first.usd_per_1000]


def _is_close(pair: Pair | None, margin: float) -> bool:
    return pair is not None and pair.difference.high <= margin


def _proved(standing: Ranked, taken: ArmResult) -> Iterator[str]:
    """Say which arms the first is shown to be better than, and which not."""
    first = standing.arms[0]
    pairs = [pair for pair in standing.pairs if pair.better == first.name]
    shown = [pair.worse for pair in pairs if pair.outcome == "better"]
    each = "each " if len(shown) > 1 else ""
    if shown:
        yield f"{_who(first, taken)} is shown to be better than {_listed(shown)} ({each}p < 0.05 after Holm)."
    if doubtful := [pair for pair in pairs if pair.outcome != "better"]:
        named = _listed([f"{pair.worse} ({p_words(pair.p_value)})" for pair in doubtful])
        yield f"{_who(first, taken)} is not shown to be better than {named}: that may be chance."


def _changes(
    standing: Ranked, taken: ArmResult, scores: Mapping[str, FloatArray], groups: Sequence[str], margin: float
) -> Iterator[str]:
    """Say of each other arm what would put it in the place of the one that is taken."""
    first, n = standing.arms[0], len(groups)
    for arm in standing.arms:
        if arm is taken:
            continue
        pair = standing.behind(arm.name)
        if pair is None:
            saved = _saved(taken, first)
            yield (
                f"{arm.name} takes the place of {taken.name} where its {100 * _gap(standing, taken):.1f} points are "
                f"worth more than {saved} per 1,000 answers."
            )
        elif taken is first:
            yield _to_flip(arm, first, pair, scores, groups, n, margin)


def _to_flip(
    arm: ArmResult,
    first: ArmResult,
    pair: Pair,
    scores: Mapping[str, FloatArray],
    groups: Sequence[str],
    n: int,
    margin: float,
) -> str:
    gap = pair.difference.estimate
    more = math.floor(gap * n + 1e-9) + 1
    words = f"{arm.name} would come first with a gain of {100 * gap:.1f} points, {more:,} more right answers of {n:,}"
    if pair.outcome != "better":
        needed = needed_examples(scores[arm.name], scores[first.name], groups)
        words += (
            "; both are equally often right here"
            if needed is None
            else f"; if the difference is as large as here, about {needed:,} test examples show it "
            f"({100 * POWER:.0f} % of the time), and there are {n:,}"
        )
        if arm.usd_per_1000 is not None and first.usd_per_1000 is not None and arm.usd_per_1000 < first.usd_per_1000:
            words += (
                f"; it saves {_saved(arm, first)} per 1,000 answers, and is taken once it is shown to be at most "
                f"{100 * margin:g} points worse (by these examples it may be {100 * pair.difference.high:.1f} worse)"
            )
    return f"{words}."


def _people(arm: ArmResult, first: ArmResult, label: str) -> str:
    if not arm.n_handed:
        return f"{arm.name} leaves no answer to people: all are sure enough."
    total = arm.n + arm.n_handed
    chance = "" if arm.value.low > first.value.estimate else ", which may be chance"
    return (
        f"With people for the unsure {arm.n_handed:,} of {total:,} ({100 * arm.n_handed / total:.0f} %), {arm.name}: "
        f"{label} of its own answers {100 * arm.value.estimate:.1f} % ({_ends(arm)}), where {first.name} alone has "
        f"{100 * first.value.estimate:.1f} %{chance}."
    )


def _gap(standing: Ranked, taken: ArmResult) -> float:
    pair = standing.behind(taken.name)
    return 0.0 if pair is None else pair.difference.estimate


def _value(label: str, arm: ArmResult) -> str:
    return f"{label.lower()} {100 * arm.value.estimate:.1f} % ({_ends(arm)})"


def _ends(arm: ArmResult) -> str:
    return f"{100 * arm.value.low:.1f} to {100 * arm.value.high:.1f}"


def _usd(arm: ArmResult) -> str:
    return "nobody knows how much" if arm.usd_per_1000 is None else f"{arm.usd_per_1000:,.2f} USD"


def _saved(cheaper: ArmResult, dearer: ArmResult) -> str:
    return f"{(dearer.usd_per_1000 or 0) - (cheaper.usd_per_1000 or 0):,.2f} USD"


def _who(first: ArmResult, taken: ArmResult) -> str:
    return "It" if first is taken else first.name


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
