"""What a task may say of money: prices that a provider asks, and what its model will be used for. All in USD."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from finetune_assets.task.sources import Name
from finetune_assets.task.strict import Strict

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _budget_tag(found: object) -> str:
    return "regions" if isinstance(found, dict) else "each"


OTHERS = "*"
"""In a mapping of limits, every region that it does not name."""
Budget = Annotated[
    Annotated[Usd, Tag("each")] | Annotated[dict[Literal["*"] | Name, Usd | None], Tag("regions")],
    Discriminator(_budget_tag),
]
"""One limit for each region, or limits by region's name. Told apart before they are judged, as regions are."""


class TokenPrices(Strict):
    """Of answers, in USD for one million tokens."""

    input: Usd
    """Of the question."""
    cached_input: Usd | None = Field(default=None, description="Of input that the provider has seen shortly before.")
    output: Usd
    """Of the answer."""


class Prices(Strict):
    """Of one model at one provider. What is left out is not known."""

    training: Usd | None = Field(default=None, description="USD for one million training tokens.")
    base: TokenPrices | None = Field(default=None, description="Answers of the base model.")
    fine_tuned: TokenPrices | None = Field(default=None, description="Answers of a model fine-tuned from it.")
    batch_share: float = Field(default=1, gt=0, le=1, description="Share of these prices that answers in batches cost.")
    hosting_usd_per_hour: Usd = Field(default=0, description="Of a fine-tuned model that is ready to answer.")
    as_of: str = Field(default="", description="The day on which these were the prices.")
    source: str = Field(default="", description="Where they are published.")


class Costs(Strict):
    """What the model will be used for, so that fine-tuning can be compared with retrieval (RAG).

    With retrieval the base model is asked, and each request carries pieces of the data; a fine-tuned model has learned
    the data and is asked the bare question.
    """

    requests_per_month: int = Field(ge=0, description="Questions that the model will answer.")
    retrieved_tokens: int = Field(ge=0, description="Tokens of context that retrieval adds to each request.")
    prompt_tokens: Amount | None = Field(
        default=None, description="Tokens of a request without that context; by default as in the training file."
    )
    answer_tokens: Amount | None = Field(
        default=None, description="Tokens of an answer; by default as in the training file."
    )
    horizon_months: int = Field(default=12, ge=1, le=120, description="Over how long costs are compared.")
    data: Literal["static", "dynamic"] = Field(
        default="static", description="Whether the data stays true for years, or changes all the time."
    )
    retrain_every_months: int | None = Field(
        default=None, ge=1, description="By default never for static data, and every month for dynamic data."
    )
    storage_gb: Amount = Field(default=0, description="Data that retrieval stores at the beginning.")
    new_gb_per_month: Amount = Field(default=0, description="Data that is added to it.")
    storage_usd_per_gb_month: Usd = 0
    """What storing that data costs."""
    embedding_usd_per_gb: Usd = Field(default=0, description="To make data searchable, once.")
    retrieval_usd_per_thousand_requests: Usd = Field(default=0, description="To find the pieces of a request.")
