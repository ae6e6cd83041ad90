"""What a benchmark found: base against fine-tuned model on the same held-out examples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from finetune_assets.evaluation.scoring import BinaryMetrics
from finetune_assets.evaluation.statistics import Interval, Outcome


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model's metrics over the test examples."""

    model: str
    metrics: BinaryMetrics
    median_latency_s: float | None


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of both models and the paired difference, fine-tuned minus base, each with its interval."""

    base: Interval
    fine_tuned: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class WorstExample:
    """An example that the fine-tuned model got wrong."""

    example_id: str
    image: str | None
    question: str
    truth: str
    text: str | None
    """What the model wrote."""
    predicted: str | None
    p_truth: float | None
    """Probability that the model gave to the true answer, or None without log-probabilities."""
    base_correct: bool


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """Everything that decides whether to ship the fine-tuned model."""

    n: int
    """Test examples that both models answered; all figures are over these."""
    n_unanswered: int
    """Test examples left out, because a request for one of the models failed."""
    majority_answer: str
    """The most frequent true answer."""
    majority_accuracy: float
    """What always giving the majority answer would score."""
    over_majority: Interval
    """Accuracy of the fine-tuned model over that, with its interval: a gain over a poor base model alone is no reason
    to ship."""
    base: ModelResult
    fine_tuned: ModelResult
    comparisons: dict[str, MetricComparison]
    """By metric name, `accuracy` first; metrics that are not defined on these examples are absent."""
    n_fixed: int
    """Examples that only the fine-tuned model got right."""
    n_broken: int
    """Examples that only the base model got right."""
    p_value: float
    """McNemar's exact test on `n_fixed` against `n_broken`."""
    outcome: Outcome
    verdict: str
    worst: tuple[WorstExample, ...]
    """The fine-tuned model's wrong answers, the most confident ones first."""

    @property
    def difference(self) -> Interval:
        """Accuracy gained by fine-tuning, with its interval."""
        return self.comparisons["accuracy"].difference

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)
