"""What is asked of a provider before a task is run there, and how its answers are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_assets.preflight import provider
from finetune_assets.preflight.finding import Finding
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server_process import ServerProcess


def test_a_provider_is_asked_with_its_key(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    assert provider.reach(server.base_url)[1] == Finding(f"provider {server.base_url}", "good", "it answers")
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "another key")
    refused = provider.reach(server.base_url)[1]
    assert refused.state == "bad" and "does not accept the API key" in refused.words


def test_a_provider_without_a_key_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = provider.reach("openai")[1]
    assert found.state == "bad" and "set OPENAI_API_KEY" in found.words


def test_a_local_server_that_does_not_run_is_a_warning_for_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client, found = provider.reach("local")
    assert client is None and (found.state, "it does not run here" in found.words) == ("warning", True)


def test_a_model_that_the_provider_does_not_know_is_bad(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    task = make_task(provider=server.base_url, base_model="tiny-texd")
    found = {finding.what: finding for finding in provider.findings(task)}
    assert found["model tiny-texd"].state == "bad"
    assert "does not know it" in found["model tiny-texd"].words and "it has " in found["model tiny-texd"].words


def test_a_budget_that_cannot_be_held_is_bad_and_so_is_one_that_leaves_a_region_out() -> None:
    def budget(**changes: object) -> Finding:
        task = make_task(provider="http://127.0.0.1:9/v1", **changes)
        return next(finding for finding in provider.findings(task) if finding.what == "budget")

    for limit in ({"budget_usd": 1}, {"monthly_budget_usd": 1}):
        assert budget(**limit).state == "bad"
        assert budget(**limit).words.endswith("cannot be held; state `prices`, or `checks: {within_budget: warn}`")
    left_out = budget(regions=["mono", "poly"], budget_usd={"mono": 5}, prices={"training": 25})
    assert left_out.state == "bad" and "allows nothing for poly" in left_out.words
    assert budget().state == "warning"


def test_the_key_is_never_told(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "secret-of-mine")
    told = [finding.words for finding in provider.findings(make_task(provider=server.base_url))]
    assert told and not any("secret-of-mine" in words for words in told)
