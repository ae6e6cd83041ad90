"""What a champion answers, or the people to whom it leaves a question."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Predicted:
    """The champion's answer, or why there is none."""

    model: str
    answer: str | None = None
    """In the task's words; None where the model wrote something else. Of two words it is the one that `p_calibrated`
    stands for, which may be another than the model wrote (`text`)."""
    value: float | None = None
    """The number (number answers)."""
    p_raw: float | None = None
    """The model's own probability: of the positive answer (binary), or of its answer (choice, text)."""
    p_calibrated: float | None = None
    """The probability that the positive answer is true (binary), or that the answer is right (choice, text)."""
    probabilities: dict[str, float] | None = None
    """Calibrated, of every option; they add up to 1 (choice)."""
    of: str | None = None
    """What both are the probability of, in words."""
    levels: tuple[str, ...] | None = None
    """Neighbouring levels that hold the true one in `level` of all cases (score answers)."""
    interval: tuple[float, float] | None = None
    """Around the number; it holds the truth in `level` of all cases. None where too few examples calibrated it."""
    level: float | None = None
    text: str | None = None
    """What the model wrote."""
    ask_a_person: bool = False
    """Whether the answer is not sure enough to be used by itself (`benchmark.defer` of the task)."""
    review: str | None = None
    """Its name in the reviewers' queue Asked, where the task's `in_use.review` lays it before people."""
    decided_by: tuple[str, ...] = ()
    """The reviewers who answered this very question, so that no model was asked."""
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.error is not None:
            return f"no answer: {self.error}"
        if self.decided_by:
            people = ", ".join(self.decided_by)
            return f"{self.answer}  [decided by {people}]" if self.answer else f"no answer: rejected by {people}"
        said = self.answer if self.answer is not None else f"unreadable answer {self.text!r}"
        if self.interval and self.level:
            low, high = self.interval
            return f"{said}  [{low:,.6g} to {high:,.6g}, {100 * self.level:g} % interval]"
        if self.levels and self.level:
            said += f" ({self.levels[0]} to {self.levels[-1]} in {100 * self.level:g} % of cases)"
        if self.ask_a_person:
            said = f"ask a person; the model says {said}"
        if self.p_calibrated is None or self.p_raw is None:
            return f"{said}  [no {'probability' if self.value is None else 'interval'}]"
        return f"{said}  [probability {self.p_calibrated:.3f} {self.of}, {self.p_raw:.3f} uncalibrated]"
