"""What a model lost by being fine-tuned: its answers to other questions than those of its region, before and after."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.report import Forgetting
from finetune_assets.task.answers import Answer

if TYPE_CHECKING:
    import pandas as pd


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
