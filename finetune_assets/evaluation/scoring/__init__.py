"""How answers are judged, one file for each kind of answer."""

from __future__ import annotations

from typing import Any

from finetune_assets.evaluation.scoring.binary import BinaryScoring
from finetune_assets.evaluation.scoring.choice import ChoiceScoring
from finetune_assets.evaluation.scoring.metric import Scoring
from finetune_assets.evaluation.scoring.number import NumberScoring
from finetune_assets.evaluation.scoring.text import TextScoring
from finetune_assets.task import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer

__all__ = ["Scoring", "scoring_of"]


def scoring_of(answer: Answer) -> Scoring[Any]:
    """Return how answers of this kind are judged."""
    match answer:
        case BinaryAnswer():
            return BinaryScoring(answer)
        case ChoiceAnswer():
            return ChoiceScoring(answer)
        case NumberAnswer():
            return NumberScoring(answer)
        case TextAnswer():
            return TextScoring(answer)
