"""How long a model will be there."""

from __future__ import annotations

from datetime import date

import pytest

from finetune_assets.errors import ProviderError
from finetune_assets.provider.client import Client
from finetune_assets.provider.lifecycle import Ending, base_of, models, new_jobs_end, shutdown, training_end
from finetune_assets_tests.scripted_provider import ScriptedProvider


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("ft:gpt-4o-mini-2024-07-18:personal::AHbfZfXX", "gpt-4o-mini-2024-07-18"),
        ("ft:gpt-4.1-2025-04-14:org:cells-mono:7p4lURel:ckpt-step-200", "gpt-4.1-2025-04-14"),
        ("ft:llama:3:8b:org:cells:abc", "llama:3:8b"),
        ("gpt-4.1-mini-2025-04-14.ft-0e208cf33a6a466994aff31a08aba678:cells", "gpt-4.1-mini-2025-04-14"),
        ("ft:odd", "odd"),
    ],
)
def test_the_base_is_read_from_the_name(model: str, base: str) -> None:
    assert base_of(model) == base


def test_the_models_endpoint_is_asked_for_the_model_and_its_base(provider: ScriptedProvider) -> None:
    tuned = "ft:base:org::abc"
    provider.add_model(tuned)
    provider.add_model("base", "2027-06-30")
    found = shutdown(provider.client(), provider.base_url, tuned)
    assert found == Ending("base", date(2027, 6, 30), f"{provider.base_url}/models")


def test_the_earliest_announcement_counts(provider: ScriptedProvider) -> None:
    provider.add_model("gpt-4o-2024-08-06", "2026-12-24")
    provider.add_model("gpt-4.1-2025-04-14", "2028-12-24")
    early, late = (
        shutdown(provider.client(), "openai", model) for model in ("gpt-4o-2024-08-06", "gpt-4.1-2025-04-14")
    )
    assert early and early.day == date(2026, 12, 24)
    assert late and late.day == date(2027, 1, 14)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-2024-11-20",
        "gpt-4o-mini-2024-07-18",
        "ft:gpt-4.1-mini-2025-04-14:org::abc",
        "ft:gpt-4o-2024-08-06:org:cells:abc:ckpt-step-20",
    ],
)
def test_openai_s_models_and_what_is_tuned_from_them_end_on_14_january_2027(
    provider: ScriptedProvider, model: str
) -> None:
    found = shutdown(provider.client(), "openai", model)
    assert found and found.day == date(2027, 1, 14) and "https://developers.openai.com/" in found.source


def test_openai_s_days_are_not_those_of_a_namesake_elsewhere(provider: ScriptedProvider) -> None:
    provider.add_model("gpt-4o-2024-08-06")
    for name in ("local", provider.base_url):
        assert shutdown(provider.client(), name, "gpt-4o-2024-08-06") is None
        assert new_jobs_end(name) is None


def test_openai_takes_no_new_jobs_from_6_january_2027_on() -> None:
    ending = new_jobs_end("openai")
    assert ending and ending.in_words(date(2026, 11, 22)).startswith(
        "the creation of fine-tuning jobs at openai ends on 2027-01-06, in 45 days (https://"
    )


@pytest.mark.parametrize(
    ("today", "words"),
    [
        (date(2027, 1, 12), "m ends on 2027-01-14, in 2 days (page)"),
        (date(2027, 1, 13), "m ends on 2027-01-14, in 1 day (page)"),
        (date(2027, 1, 14), "m ended on 2027-01-14, 0 days ago (page)"),
        (date(2027, 1, 15), "m ended on 2027-01-14, 1 day ago (page)"),
    ],
)
def test_days_are_counted(today: date, words: str) -> None:
    assert Ending("m", date(2027, 1, 14), "page").in_words(today) == words


def test_a_day_that_cannot_be_read_is_none(provider: ScriptedProvider) -> None:
    provider.add_model("m", "soon")
    assert shutdown(provider.client(), provider.base_url, "m") is None


@pytest.mark.parametrize("days", [(1806451200, 1822348800), ("2027-03-31", "2027-10-01T00:00:00Z")])
def test_azure_s_two_days_are_read_from_its_models_endpoint(
    provider: ScriptedProvider, days: tuple[object, ...]
) -> None:
    # 1806451200 is 2027-03-31, 1822348800 is 2027-10-01, both at midnight (UTC).
    training, inference = days
    provider.add_model("m", deprecation={"fine_tune": training, "inference": inference})
    ended, gone = training_end(provider.client(), "m"), shutdown(provider.client(), provider.base_url, "m")
    assert ended and ended.day == date(2027, 3, 31) and ended.what == "the training of m"
    assert gone and gone.day == date(2027, 10, 1)


@pytest.mark.parametrize("said", [None, "soon", {}, {"fine_tune": None}, {"fine_tune": -1}, {"fine_tune": 10**30}])
def test_what_is_no_day_of_training_is_none(provider: ScriptedProvider, said: object) -> None:
    provider.add_model("m", deprecation=said)
    assert training_end(provider.client(), "m") is None


@pytest.mark.parametrize(
    ("model", "day", "words"),
    [
        ("gpt-4o-2024-08-06", date(2027, 1, 14), "; its provider names gpt-6-luna in its place"),
        ("o3-pro", date(2026, 12, 11), "; its provider names a model of the gpt-6 family in its place"),
        ("gpt-5.1", date(2027, 4, 1), ")"),
    ],
)
def test_what_ends_is_told_with_what_its_provider_names_instead(
    provider: ScriptedProvider, model: str, day: date, words: str
) -> None:
    found = shutdown(provider.client(), "openai", model)
    assert found and found.day == day and found.in_words(date(2026, 11, 30)).endswith(words)


def test_models_that_are_only_asked_are_none_that_can_be_trained() -> None:
    assert "gpt-4o-2024-08-06" in models("openai") and not {"gpt-5", "o3", "gpt-5.1"} & set(models("openai"))


def test_a_provider_that_does_not_answer_is_no_good_news() -> None:
    silent = Client(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0)
    with pytest.raises(ProviderError, match="does not answer"):
        shutdown(silent, "local", "m")
