"""All arms on the same test examples: how often each is right, and which differences are no chance.

Every two arms are compared by the paired test, and the p-values are raised for the number of such pairs (Holm). So it
may be said of whichever arm comes first that it is better than another one: it was chosen by the very same answers,
which a test against an arm that was fixed beforehand would not allow for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.arms import cascade
from finetune_assets.evaluation.arms.advice import Advice, advise
from finetune_assets.evaluation.arms.entry import Entrants, Entry, LeftOut, claimed
from finetune_assets.evaluation.arms.result import ArmResult, Pair, Ranked
from finetune_assets.evaluation.benchmark.model_result import model_result
from finetune_assets.evaluation.benchmark.pairing import gain
from finetune_assets.evaluation.calibration.reliability import calibration_error
from finetune_assets.evaluation.scoring import Scoring, scoring_of
from finetune_assets.evaluation.shares import accuracy_interval
from finetune_assets.evaluation.statistics import (
    FloatArray,
    Interval,
    bootstrap,
    holm,
    outcome,
    percentile_interval,
)
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer
from finetune_assets.task.arms import PERSON, CascadeArm, name_of
from finetune_assets.task.judging import DecidingMetric, Defer

TARGET = 0.9
"""Share of right answers that a cascade to a person promises where nobody says which."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What a contest found."""

    label: str
    """Of the deciding metric."""
    n: int
    """Test examples, the same for all."""
    ranked: tuple[ArmResult, ...]
    """By the deciding metric, the best first."""
    with_people: tuple[ArmResult, ...]
    """Cascades to a person: of their own answers alone, so that they have no place among the others."""
    pairs: tuple[Pair, ...]
    """Every two of `ranked`."""
    left_out: tuple[LeftOut, ...]
    advice: Advice

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Judge:
    answer: Answer
    scoring: Scoring[Any]

    def scores(self, entry: Entry) -> FloatArray:
        return self.scoring.decisive(self.scoring.score(entry.test))

    def result(self, entry: Entry, p: FloatArray, usd: float | None, handed: int = 0) -> ArmResult:
        rows, one = entry.test, model_result(self.scoring, entry.test, None, 1)
        latencies = [row.latency_s for row in rows if row.latency_s is not None]
        p50, p99 = np.percentile(latencies, [50, 99]).tolist() if latencies else (None, None)
        return ArmResult(
            name=entry.name,
            kind=entry.kind,
            how=entry.how,
            model=one.model,
            n=len(rows),
            value=_mean(self.scoring, self.scores(entry), [row.group for row in rows]),
            n_handed=handed,
            calibration_error=self._error(entry, p),
            is_calibrated=entry.calibrator is not None,
            p50_s=p50,
            p99_s=p99,
            usd_per_1000=None if usd is None else 1000 * usd / len(rows),
            n_failed=one.n_failed,
            n_unparseable=one.n_unparseable,
            prompt=entry.prompt,
        )

    def usd(self, entry: Entry, handed: np.ndarray | None = None) -> float | None:
        """What an arm's answers to the test cost, or to those that were handed over to it."""
        rows = [row for k, row in enumerate(entry.test) if handed is None or handed[k]]
        if not rows:
            return 0.0
        return model_result(self.scoring, rows, entry.price, entry.batch_share).cost_usd

    def _error(self, entry: Entry, p: FloatArray) -> Interval | None:
        known = ~np.isnan(p)
        groups = np.array([row.group for row in entry.test], dtype=object)[known]
        if isinstance(self.answer, NumberAnswer) or len(set(groups.tolist())) < 2:
            return None
        if isinstance(self.answer, BinaryAnswer):
            happened = np.array([row.truth == self.answer.positive for row in entry.test], dtype=float)
        else:
            happened = self.scoring.score(entry.test).right
        return calibration_error(p[known], happened[known], groups)


def hold(
    field: Entrants,
    own: Entry,
    cascades: Sequence[CascadeArm],
    answer: Answer,
    *,
    metric: DecidingMetric | None = None,
    defer: Defer | None = None,
    margin: float = 0.02,
) -> Contest:
    """Judge all arms on the test examples that all were asked.

    Args:
        field: Who answered, and who was left out.
        own: The fine-tuned model, which cascades ask first, with its answers to the calibration split.
        cascades: Those that are to be tried.
        answer: The task's kind of answer.
        metric: What decides; by default as for the benchmark.
        defer: What a cascade to a person promises of its own answers where its arm says nothing.
        margin: A cheaper arm may be this much worse.

    Raises:
        EvaluationError: the arms were not asked the same examples, or no arm answered.
    """
    judge = _Judge(answer, scoring_of(answer, metric))
    left_out = list(field.left_out)
    found = [(entry, judge.result(entry, claimed(entry.test, answer, entry.calibrator), judge.usd(entry)))
             for entry in field.entries]  # fmt: skip
    with_people: list[ArmResult] = []
    for arm in cascades:
        try:
            entry, result = _cascade(judge, arm, field, own, defer)
        except EvaluationError as error:
            left_out.append(LeftOut(name_of(arm), str(error)))
            continue
        if arm.to == PERSON:
            with_people.append(result)
        else:
            found.append((entry, result))
    if not found:
        raise EvaluationError("no arm answered")
    _require_same_examples([entry for entry, _ in found])
    found.sort(key=lambda pair: -pair[1].value.estimate)
    ranked = tuple(result for _, result in found)
    pairs = tuple(_pairs(judge, [entry for entry, _ in found]))
    scores = {entry.name: judge.scores(entry) for entry, _ in found}
    groups = [row.group for row in found[0][0].test]
    standing = Ranked(judge.scoring.deciding.label, ranked, pairs)
    return Contest(
        label=standing.label,
        n=len(groups),
        ranked=ranked,
        with_people=tuple(with_people),
        pairs=pairs,
        left_out=tuple(left_out),
        advice=advise(standing, with_people, scores, groups, margin),
    )


def _cascade(
    judge: _Judge, arm: CascadeArm, field: Entrants, own: Entry, defer: Defer | None
) -> tuple[Entry, ArmResult]:
    name, answer = name_of(arm), judge.answer
    mine = claimed(own.test, answer, own.calibrator)
    if not own.calibration:
        raise EvaluationError("the fine-tuned model has no answers to the calibration split, which set the threshold")
    if arm.to == PERSON:
        asked = defer or Defer(target_accuracy=TARGET)
        if arm.target_accuracy is not None:
            asked = asked.model_copy(update={"target_accuracy": arm.target_accuracy})
        made = cascade.to_person(name, own, asked, judge.scoring, answer)
        if made.handed.all():
            raise EvaluationError(
                f"no answer can be promised to be {100 * asked.target_accuracy:g} % right, said with "
                f"{100 * asked.confidence:g} % confidence, so that a person would answer all of them"
            )
        usd = judge.usd(own)
        result = judge.result(made.entry, mine[~made.handed], None, int(made.handed.sum()))
        return made.entry, result.costing(None if usd is None else 1000 * usd / len(own.test))
    other = cascade.rows_of(field.entries, arm.to)
    if other is None:
        raise EvaluationError(f"it goes to {arm.to}, which was left out")
    made = cascade.to_arm(name, own, other, judge.scoring, answer)
    p = np.where(made.handed, claimed(other.test, answer, other.calibrator), mine)
    parts = judge.usd(own), judge.usd(other, made.handed)
    usd = None if None in parts else sum(filter(None, parts))
    return made.entry, judge.result(made.entry, p, usd, int(made.handed.sum()))


def _mean(scoring: Scoring[Any], scores: FloatArray, groups: Sequence[str]) -> Interval:
    """Return the deciding metric with its interval."""
    if scoring.deciding.right_or_wrong:
        return accuracy_interval(scores, groups)
    n_groups = len(set(groups))
    if n_groups == 1:
        return Interval(float(scores.mean()), 0.0, 1.0)
    found = percentile_interval(
        float(scores.mean()), bootstrap(lambda w: (w @ scores) / w.sum(axis=1), groups), n_groups
    )
    return Interval(found.estimate, max(0.0, found.low), min(1.0, found.high), found.level)


def _pairs(judge: _Judge, entries: Sequence[Entry]) -> Iterator[Pair]:
    """Compare every two arms, of which the first is the better one; p-values are raised for all of them (Holm)."""
    groups = [row.group for row in entries[0].test]
    scores = {entry.name: judge.scores(entry) for entry in entries}
    both = list(combinations(scores, 2))
    gains = [gain(judge.scoring, scores[worse], scores[better], groups) for better, worse in both]
    raised = holm([each.p_value for each in gains]).tolist() if gains else []
    for (better, worse), each, p in zip(both, gains, raised, strict=True):
        yield Pair(better, worse, each.difference, p, outcome(each.difference, p))


def _require_same_examples(entries: Sequence[Entry]) -> None:
    first = [row.example_id for row in entries[0].test]
    for entry in entries[1:]:
        if [row.example_id for row in entry.test] != first:
            raise EvaluationError(f"{entry.name} was not asked the test examples that {entries[0].name} was asked")
