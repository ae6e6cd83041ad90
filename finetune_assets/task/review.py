"""How people review a task's examples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finetune_assets.task.strict import Strict


class Review(Strict):
    """What reviewers are told, and how many of them must agree."""

    guidelines: str = Field(
        default="", max_length=20_000, description="What reviewers read beside the example: how to judge, with cases."
    )
    judgements: int = Field(
        default=1,
        ge=1,
        le=9,
        description="Reviewers who must agree before a training label changes; held-out ones always take two or more.",
    )
    show_model: list[Literal["doubtful", "uncertain", "disagreement"]] = Field(
        default=[],
        description="Queues of training examples that show the model's answer at once; else it is hidden until judged.",
    )
    gold: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Share of blind examples whose answer is known already: they tell how good a reviewer is.",
    )
