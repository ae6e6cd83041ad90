"""Fine-tuning or retrieval (RAG)? What both cost over the coming months, and from which volume on which pays.

Fine-tuning costs a training at the beginning (and again where the data changes), the hosting of the model, and for each
request the question and its answer. Retrieval costs storage, embedding and search of the data, and for each request the
retrieved context besides, at the price of the base model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

from finetune_assets.task.costs import Costs, Prices, TokenPrices

HOURS_PER_MONTH = 8766 / 12
Advice = Literal["fine-tune", "retrieve", "both"]


@dataclass(frozen=True, slots=True)
class Way:
    """One of the two ways: how its costs add up."""

    usd_per_request: float
    usd_without_requests: tuple[float, ...]
    """Cumulative, at the end of each month from 0 (the beginning) to the horizon."""
    usd: tuple[float, ...]
    """The same with all requests."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Fine-tuning against retrieval over the horizon of `costs`."""

    costs: Costs
    fine_tuning: Way
    retrieval: Way
    break_even_month: int | None
    """From its end on fine-tuning is the cheaper way up to the horizon; 0 is from the beginning, None never."""
    break_even_requests: float | None
    """Requests a month at which both ways cost the same over the horizon; None if they never do."""
    break_even_gb: float | None
    """Data stored at the beginning at which both ways cost the same over the horizon; None if they never do."""
    advice: Advice
    reason: str
    """The advice and its reasons, in words."""

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain values."""
        return asdict(self) | {"costs": self.costs.model_dump()}


def compare(
    costs: Costs, prices: Prices, *, training_usd: float, prompt_tokens: float, answer_tokens: float
) -> Comparison | None:
    """Compare both ways; None where the price of the answers of either model is not known.

    Args:
        costs: What the model will be used for; its `prompt_tokens` and `answer_tokens` go before the arguments.
        prices: Of the base and the fine-tuned model.
        training_usd: Of one training.
        prompt_tokens: Of a request without retrieved context.
        answer_tokens: Of an answer.
    """
    if prices.base is None or prices.fine_tuned is None:
        return None
    asked = prompt_tokens if costs.prompt_tokens is None else costs.prompt_tokens
    answered = answer_tokens if costs.answer_tokens is None else costs.answer_tokens
    searched = costs.retrieval_usd_per_thousand_requests / 1000
    months = range(costs.horizon_months + 1)
    tuning = _way(
        costs,
        _request(prices.fine_tuned, asked, answered),
        [_trainings(costs, m) * training_usd + m * HOURS_PER_MONTH * prices.hosting_usd_per_hour for m in months],
    )
    retrieval = _way(
        costs,
        _request(prices.base, asked + costs.retrieved_tokens, answered) + searched,
        [_kept(costs, m) for m in months],
    )
    cheaper = [a <= b for a, b in zip(tuning.usd, retrieval.usd, strict=True)]
    month = None if not cheaper[-1] else len(cheaper) - cheaper[::-1].index(False) if False in cheaper else 0
    requests = _break_even_requests(costs, tuning, retrieval)
    advice, reason = _advise(costs, tuning, retrieval, month, requests)
    return Comparison(
        costs, tuning, retrieval, month, requests, _break_even_gb(costs, tuning, retrieval), advice, reason
    )


def _way(costs: Costs, usd_per_request: float, fixed: list[float]) -> Way:
    monthly = costs.requests_per_month * usd_per_request
    return Way(usd_per_request, tuple(fixed), tuple(usd + month * monthly for month, usd in enumerate(fixed)))


def _request(prices: TokenPrices, prompt_tokens: float, answer_tokens: float) -> float:
    return (prompt_tokens * prices.input + answer_tokens * prices.output) / 1e6


def _trainings(costs: Costs, month: int) -> int:
    """Trainings before the end of a month: one at the beginning, and one whenever the data has aged."""
    every = costs.retrain_every_months or (1 if costs.data == "dynamic" else None)
    return 1 if every is None else max(1, ceil(month / every))


def _kept(costs: Costs, month: int) -> float:
    """USD for embedding and storing the data up to the end of a month; what is new in a month is stored in it."""
    embedded = costs.storage_gb + month * costs.new_gb_per_month
    gb_months = month * costs.storage_gb + costs.new_gb_per_month * month * (month + 1) / 2
    return embedded * costs.embedding_usd_per_gb + gb_months * costs.storage_usd_per_gb_month


def _break_even_requests(costs: Costs, tuning: Way, retrieval: Way) -> float | None:
    saved = retrieval.usd_per_request - tuning.usd_per_request
    more = tuning.usd_without_requests[-1] - retrieval.usd_without_requests[-1]
    if saved == 0 or more / saved < 0:
        return None
    return more / saved / costs.horizon_months


def _break_even_gb(costs: Costs, tuning: Way, retrieval: Way) -> float | None:
    usd_per_gb = costs.embedding_usd_per_gb + costs.horizon_months * costs.storage_usd_per_gb_month
    if usd_per_gb == 0:
        return None
    gb = costs.storage_gb + (tuning.usd[-1] - retrieval.usd[-1]) / usd_per_gb
    return gb if gb >= 0 else None


def _advise(costs: Costs, tuning: Way, retrieval: Way, month: int | None, requests: float | None) -> tuple[Advice, str]:
    sums = (
        f"over {costs.horizon_months} months fine-tuning costs {tuning.usd[-1]:,.2f} USD, "
        f"retrieval {retrieval.usd[-1]:,.2f} USD"
    )
    volume = _volume(tuning, retrieval, requests)
    if tuning.usd == retrieval.usd:
        better = "fine-tune" if costs.data == "static" else "retrieve"
        why = f"the data is {costs.data}. The machine that answers is not counted unless `prices` says what it costs."
        return better, f"{better.capitalize()}: {sums}; {why}"
    if month is None:
        return "retrieve", f"Retrieve: {sums}. {volume}"
    since = "from the beginning" if month == 0 else f"from month {month} on"
    if costs.data == "static":
        return "fine-tune", f"Fine-tune: {sums}; it is the cheaper way {since}, and the data is static. {volume}"
    return "both", (
        f"Do both: {sums}, but the data changes, and a model knows nothing that came after its training. "
        f"Fine-tune what stays true, retrieve what changes. {volume}"
    )


def _volume(tuning: Way, retrieval: Way, requests: float | None) -> str:
    if requests is None:
        cheaper = "Fine-tuning" if tuning.usd[-1] <= retrieval.usd[-1] else "Retrieval"
        return f"{cheaper} is the cheaper way at any number of requests."
    side = "more" if tuning.usd_per_request < retrieval.usd_per_request else "fewer"
    return f"Fine-tuning is the cheaper way with {side} than {requests:,.0f} requests a month."
