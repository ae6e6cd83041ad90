"""What a benchmark found: base against fine-tuned model on the same held-out examples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from finetune_assets.evaluation.benchmark.both_labels import BothLabels
from finetune_assets.evaluation.benchmark.pairing import Gain
from finetune_assets.evaluation.benchmark.subgroups import Subgroup
from finetune_assets.evaluation.scoring.metric import Confusion
from finetune_assets.evaluation.statistics import Interval, Outcome, p_words, signed_parts


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model's answers to the test examples."""

    model: str
    metrics: dict[str, float | None]
    """By name; None where one is not defined on these examples."""
    n_unparseable: int
    """Answers that could not be read; they count as wrong."""
    n_failed: int
    """Requests that failed or were refused; they count as wrong too, and are none of `n_unparseable`."""
    confusion: Confusion | None
    """Answers given by true answer (binary and choice answers)."""
    bands: dict[str, int] | None
    """Green, orange and red answers (number answers): within the tolerance, within twice the tolerance, the rest."""
    median_latency_s: float | None
    """Seconds until an answer came, whenever it was asked for; None of answers from batches alone."""
    p95_latency_s: float | None
    """95 of 100 answers came within so many seconds."""
    prompt_tokens: int
    completion_tokens: int
    """Of all answers together, as the provider counted them."""
    cost_usd: float | None
    """What the provider asks for these answers; None where its prices are not known."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A trivial model that gives one answer to every question, chosen on the training split."""

    name: str
    metrics: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of both models and the paired difference, fine-tuned minus base, each with its interval."""

    label: str
    higher_is_better: bool
    is_share: bool
    """Whether it is shown times 100; else it is in the answer's own unit."""
    n: int
    """Examples that it is of: fewer than all where it needs answers that can be read."""
    base: Interval
    fine_tuned: Interval
    difference: Interval
    p_value: float | None
    """Of the paired test: McNemar's mid-p where answers are right or wrong and independent, a permutation test by
    groups where they have scores or share groups; None where the metric is no mean of scores."""

    @property
    def scale(self) -> int:
        """What it is multiplied with where it is shown."""
        return 100 if self.is_share else 1

    @property
    def digits(self) -> int:
        """How many decimals are shown; none of errors in the thousands."""
        largest = max(abs(self.base.estimate), abs(self.fine_tuned.estimate))
        return 1 if self.is_share else 0 if largest >= 1000 else 2


@dataclass(frozen=True, slots=True)
class ChampionComparison:
    """A model that the region has used, and what the fine-tuned one would change by taking its place."""

    champion: ModelResult
    """By today's labels."""
    n: int
    """Test examples."""
    n_by_source: int
    """Those of a corrected label that are judged by the source's: see `both_labels.unchosen`."""
    difference: Interval
    """Of the primary metric, fine-tuned minus champion."""
    p_value: float
    outcome: Outcome
    verdict: str
    subgroups: tuple[Subgroup, ...]
    """The champion's and the fine-tuned model's shares of right answers, apart for each subgroup."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Shares of right answers to questions that the fine-tuned model was not trained for."""

    of: str
    """Which questions, in words."""
    n: int
    base: float
    fine_tuned: float
    difference: Interval
    """Fine-tuned minus base."""
    p_value: float
    outcome: Outcome

    def __str__(self) -> str:
        meant = {"better": "better than before", "worse": "forgotten", "inconclusive": "no significant change"}
        change, low, high = signed_parts(self.difference, scale=100)
        return (
            f"{self.of} (n = {self.n}): right in {100 * self.fine_tuned:.1f} % instead of {100 * self.base:.1f} %, "
            f"{meant[self.outcome]} ({change} points, {100 * self.difference.level:g} % interval {low} to {high}, "
            f"{p_words(self.p_value)})"
        )


@dataclass(frozen=True, slots=True)
class WorstExample:
    """An example that the fine-tuned model got wrong."""

    example_id: str
    images: tuple[str, ...]
    """All that it shows, in their order."""
    question: str
    truth: str
    text: str | None
    """What the model wrote."""
    predicted: str | None
    p_truth: float | None
    """Probability that the model gave to the true answer, or None without log-probabilities (binary and choice)."""
    p_predicted: float | None
    """Probability that the model gave to its own answer, or None without log-probabilities."""
    base_text: str | None
    """What the base model wrote."""
    base_correct: bool
    error: str | None = None
    """Why the request failed, where it did."""


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """Everything that decides whether to ship the fine-tuned model."""

    kind: str
    """Of answer: binary, choice, score, number, text."""
    primary: str
    """Name of the metric that decides: the task's choice, or the share of right answers."""
    n: int
    """Test examples; all figures but those of `complete_cases` are over these."""
    n_unanswered: int
    """Test examples for which a request of one of the models failed."""
    complete_cases: Gain | None
    """Fine-tuned over base on the others alone; None where every request was answered, or none by both."""
    baselines: tuple[Baseline, ...]
    """Trivial models, the one first that suits the training split best."""
    over_baseline: Interval
    """The fine-tuned model's primary metric over that of the first baseline, with its interval: a gain over a poor base
    model alone is no reason to ship."""
    baseline_p: float
    """Of the paired test that the fine-tuned model is no better than that baseline."""
    base: ModelResult
    fine_tuned: ModelResult
    over_champion: ChampionComparison | None
    """None where the region had no champion."""
    over_best: ChampionComparison | None
    """Over the best champion so far; None where that is the present one."""
    comparisons: dict[str, MetricComparison]
    """By metric name, the primary one first; metrics that are not defined on these examples are absent."""
    n_fixed: int
    """Examples that only the fine-tuned model got right."""
    n_broken: int
    """Examples that only the base model got right."""
    p_value: float
    """Of the primary metric: McNemar's mid-p, or a permutation test where examples have scores or share groups."""
    subgroups: tuple[Subgroup, ...]
    """By the source's subgroup column, the largest first; none where it names nothing."""
    by_doubt: tuple[Subgroup, ...]
    """Clear examples apart from those whose label the experts doubted; none where all are of one kind."""
    by_source_labels: BothLabels | None
    """The same by the source's own labels; None where reviewers changed none of the test."""
    outcome: Outcome
    n_needed: int | None
    """Test examples that would show a true difference of this size; None where these do, or there is none."""
    verdict: str
    """On the base model and on the best baseline, in words."""
    worst: tuple[WorstExample, ...]
    """The fine-tuned model's wrong answers, the worst first: the surest, or of numbers those furthest off."""
    elsewhere: tuple[Forgetting, ...] = ()
    """What fine-tuning did to the model's answers to other questions than the region's."""

    @property
    def best_before(self) -> ChampionComparison | None:
        """The comparison with the best champion so far; None where the region had none."""
        return self.over_best or self.over_champion

    @property
    def decisive(self) -> MetricComparison:
        """The primary metric of both models."""
        return self.comparisons[self.primary]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)
