"""Fine-tuning against retrieval: sums a person can check, and what must hold of all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.retrieval_costs import HOURS_PER_MONTH, Comparison, compare
from finetune_assets.task.costs import Costs, Prices, TokenPrices

MINI = Prices(training=3, base=TokenPrices(input=0.15, output=0.60), fine_tuned=TokenPrices(input=0.30, output=1.20))


def comparison(prices: Prices = MINI, training_usd: float = 30, **costs: Any) -> Comparison:
    """Requests of 100 tokens, answers of 50, 1,500 tokens of context, for a year."""
    asked = Costs.model_validate({"requests_per_month": 100_000, "retrieved_tokens": 1500} | costs)
    found = compare(asked, prices, training_usd=training_usd, prompt_tokens=100, answer_tokens=50)
    assert found is not None
    return found


def test_the_costs_of_a_request_are_its_tokens_at_their_prices() -> None:
    found = comparison()
    # (100 * 0.30 + 50 * 1.20) / 1e6 = 90e-6, and (1,600 * 0.15 + 50 * 0.60) / 1e6 = 270e-6
    assert found.fine_tuning.usd_per_request == pytest.approx(90e-6)
    assert found.retrieval.usd_per_request == pytest.approx(270e-6)


def test_a_training_is_paid_back_by_the_context_that_is_no_longer_sent() -> None:
    found = comparison()
    # 9 USD a month after 30 at once, against 27 a month: 30 + 9 m <= 27 m from m = 1.67 on, so from month 2.
    assert found.fine_tuning.usd[:3] == pytest.approx((30, 39, 48))
    assert found.retrieval.usd[:3] == pytest.approx((0, 27, 54))
    assert found.break_even_month == 2
    # 30 / (270e-6 - 90e-6) / 12 months
    assert found.break_even_requests == pytest.approx(13_888.9, abs=0.1)
    assert found.advice == "fine-tune"
    assert found.reason == (
        "Fine-tune: over 12 months fine-tuning costs 138.00 USD, retrieval 324.00 USD; it is the cheaper way from "
        "month 2 on, and the data is static. Fine-tuning is the cheaper way with more than 13,889 requests a month."
    )


def test_below_the_break_even_volume_the_advice_is_to_retrieve() -> None:
    found = comparison(requests_per_month=10_000)
    assert (found.advice, found.break_even_month) == ("retrieve", None)
    assert found.reason.endswith("with more than 13,889 requests a month.")


def test_storage_grows_with_the_data_and_new_data_is_embedded() -> None:
    stored = comparison(
        requests_per_month=0, storage_gb=10, new_gb_per_month=1, storage_usd_per_gb_month=3, embedding_usd_per_gb=2
    )
    # Month 0: 10 GB embedded. Month 1: another GB embedded, 11 GB stored. Month 2: another, 12 GB stored.
    assert stored.retrieval.usd[:3] == pytest.approx((20, 20 + 2 + 33, 20 + 4 + 33 + 36))
    # 30 USD for training are those of so many GB less that the rest, 12 * 2 + 3 * 78, is retrieval's alone: none.
    assert stored.break_even_gb is None
    alone = comparison(requests_per_month=0, storage_gb=10, storage_usd_per_gb_month=0.5)
    assert alone.break_even_gb == pytest.approx(30 / (12 * 0.5))


def test_dynamic_data_is_trained_again_every_month_and_is_never_left_to_the_model_alone() -> None:
    rare, often = comparison(data="dynamic"), comparison(data="dynamic", requests_per_month=1_000_000)
    assert rare.fine_tuning.usd_without_requests == (30, *(30 * n for n in range(1, 13)))
    assert (rare.advice, often.advice) == ("retrieve", "both")
    assert "retrieve what changes" in often.reason


def test_data_may_be_trained_again_less_often() -> None:
    found = comparison(retrain_every_months=6)
    assert found.fine_tuning.usd_without_requests == (*[30] * 7, *[60] * 6)


def test_hosting_is_paid_by_the_hour() -> None:
    found = comparison(MINI.model_copy(update={"hosting_usd_per_hour": 1.7}))
    assert found.fine_tuning.usd_without_requests[1] == pytest.approx(30 + 1.7 * HOURS_PER_MONTH)


def test_where_little_context_is_saved_a_dearer_model_never_pays() -> None:
    found = comparison(retrieved_tokens=10)
    assert (found.break_even_month, found.break_even_requests) == (None, None)
    assert found.reason.endswith("Retrieval is the cheaper way at any number of requests.")


def test_where_nothing_is_charged_the_kind_of_data_decides() -> None:
    free = TokenPrices(input=0, output=0)
    static, dynamic = (
        comparison(Prices(base=free, fine_tuned=free), training_usd=0, data=data) for data in ("static", "dynamic")
    )
    assert (static.advice, dynamic.advice) == ("fine-tune", "retrieve")
    assert "the data is static. The machine that answers is not counted" in static.reason


def test_an_unknown_price_of_answers_gives_no_comparison() -> None:
    costs = Costs(requests_per_month=1, retrieved_tokens=1)
    assert compare(costs, Prices(training=3), training_usd=1, prompt_tokens=1, answer_tokens=1) is None


amounts = st.floats(0, 1000).map(lambda value: round(value, 3))


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    tokens = st.builds(TokenPrices, input=amounts, output=amounts)
    prices = Prices(base=draw(tokens), fine_tuned=draw(tokens), hosting_usd_per_hour=draw(st.floats(0, 3)))
    costs = draw(
        st.builds(
            Costs,
            requests_per_month=st.integers(0, 10**7),
            retrieved_tokens=st.integers(0, 20_000),
            horizon_months=st.integers(1, 36),
            data=st.sampled_from(["static", "dynamic"]),
            storage_gb=amounts,
            new_gb_per_month=amounts,
            storage_usd_per_gb_month=amounts,
            embedding_usd_per_gb=amounts,
            retrieval_usd_per_thousand_requests=amounts,
        )
    )
    found = compare(costs, prices, training_usd=draw(amounts), prompt_tokens=100, answer_tokens=50)
    assert found is not None
    return found


@given(comparisons())
def test_both_ways_only_ever_cost_more(found: Comparison) -> None:
    for way in (found.fine_tuning, found.retrieval):
        assert list(way.usd) == sorted(way.usd)
        assert all(usd >= fixed for usd, fixed in zip(way.usd, way.usd_without_requests, strict=True))


@given(comparisons())
def test_at_the_break_even_volume_both_cost_the_same(found: Comparison) -> None:
    if found.break_even_requests is None:
        return
    volume = found.break_even_requests * found.costs.horizon_months
    tuning, retrieval = (
        way.usd_without_requests[-1] + volume * way.usd_per_request for way in (found.fine_tuning, found.retrieval)
    )
    assert tuning == pytest.approx(retrieval, rel=1e-6, abs=1e-6)


@given(comparisons())
def test_the_break_even_month_is_where_fine_tuning_becomes_and_stays_cheaper(found: Comparison) -> None:
    cheaper = [a <= b for a, b in zip(found.fine_tuning.usd, found.retrieval.usd, strict=True)]
    month = found.break_even_month
    if month is None:
        assert not cheaper[-1] and found.advice == "retrieve"
        return
    assert all(cheaper[month:]) and (month == 0 or not cheaper[month - 1])
    if found.fine_tuning.usd != found.retrieval.usd:
        assert found.advice == ("fine-tune" if found.costs.data == "static" else "both")


@given(comparisons())
def test_retrieval_is_advised_exactly_where_it_is_cheaper(found: Comparison) -> None:
    if found.fine_tuning.usd != found.retrieval.usd:
        assert (found.advice == "retrieve") == (found.fine_tuning.usd[-1] > found.retrieval.usd[-1])
