"""What a model lost by being fine-tuned: its answers to other questions than those of its region, before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.statistics import Interval, Outcome, p_words, signed_parts
from finetune_assets.task.answers import Answer

if TYPE_CHECKING:
    import pandas as pd


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

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        meant = {"better": "better than before", "worse": "forgotten", "inconclusive": "no significant change"}
        change, low, high = signed_parts(self.difference, scale=100)
        return (
            f"{self.of} (n = {self.n}): right in {100 * self.fine_tuned:.1f} % instead of {100 * self.base:.1f} %, "
            f"{meant[self.outcome]} ({change} points, {100 * self.difference.level:g} % interval {low} to {high}, "
            f"{p_words(self.p_value)})"
        )


def forgetting(of: str, predictions: pd.DataFrame, answer: Answer) -> Forgetting | None:
    """Compare both models' answers, whose columns are those of a benchmark; None where they are too few to say.

    Raises:
        EvaluationError: columns missing, or answers that are not of this kind.
    """
    found = compare(predictions, answer)
    if predictions.loc[predictions["error"].isna(), "group"].nunique() < 2:
        return None
    decisive = found.decisive
    return Forgetting(
        of=of,
        n=found.n,
        base=decisive.base.estimate,
        fine_tuned=decisive.fine_tuned.estimate,
        difference=decisive.difference,
        p_value=found.p_value,
        outcome=found.outcome,
    )


def general_questions() -> pd.DataFrame:
    """Return questions that any language model can answer by Yes or No, as examples of a test split, in fixed order."""
    import pandas as pd

    probe = files("finetune_assets.evaluation.benchmark").joinpath("general_probe.yaml").read_text("utf-8")
    frame = pd.DataFrame(yaml.safe_load(probe))
    frame["example_id"] = frame["group"] = [f"general-{number}" for number in range(1, len(frame) + 1)]
    return frame.assign(split="test", image=None)
