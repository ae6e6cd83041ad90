"""How answers are judged, one file for each kind of answer."""

from __future__ import annotations

from typing import Any

from finetune_assets.evaluation.scoring.binary import BinaryScoring
from finetune_assets.evaluation.scoring.call import CallScoring
from finetune_assets.evaluation.scoring.choice import ChoiceScoring
from finetune_assets.evaluation.scoring.metric import Scoring
from finetune_assets.evaluation.scoring.number import NumberScoring
from finetune_assets.evaluation.scoring.score import ScoreScoring
from finetune_assets.evaluation.scoring.text import TextScoring
from finetune_assets.task.answers import (
    Answer,
    BinaryAnswer,
    CallAnswer,
    ChoiceAnswer,
    NumberAnswer,
    ScoreAnswer,
    TextAnswer,
)
from finetune_assets.task.judging import DecidingMetric

__all__ = ["Scoring", "scoring_of"]


def scoring_of(answer: Answer, metric: DecidingMetric | None = None) -> Scoring[Any]:
    """Return how answers of this kind are judged, by `metric` where one is named."""
    match answer:
        case BinaryAnswer():
            scoring: Scoring[Any] = BinaryScoring(answer)
        case ChoiceAnswer():
            scoring = ChoiceScoring(answer)
        case ScoreAnswer():
            scoring = ScoreScoring(answer)
        case NumberAnswer():
            scoring = NumberScoring(answer)
        case TextAnswer():
            scoring = TextScoring(answer, exact=metric == "exact_match")
        case CallAnswer():
            scoring = CallScoring(answer)
    if metric is not None:
        scoring.decide_by(metric)
    return scoring
