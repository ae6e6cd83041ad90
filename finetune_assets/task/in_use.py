"""What becomes of the questions that a region's champion is asked."""

from __future__ import annotations

from pydantic import Field

from finetune_assets.task.strict import Strict


class InUse(Strict):
    """What `predict` and `Predictor` do beside answering; by default nothing is kept of what is asked."""

    review: bool = Field(
        default=False,
        description="Whether answers that `benchmark.defer` leaves to a person wait in the reviewers' queue Asked, "
        "question and image with them; the same question is then answered as people decided.",
    )
    check: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the other answers that reviewers check blind: they show whether the promise holds.",
    )
    watch: bool = Field(
        default=False,
        description="Whether questions and scores are counted by day, to see whether they drift from the held-out "
        "examples; nothing else of them is kept.",
    )
