"""What checks have found, read as Dagster and as Dagster+ allow it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from finetune_assets.pipeline.checks.history import failures, report

KEY = dg.AssetCheckKey(dg.AssetKey(["cells", "finetuned_model"]), "job_succeeded")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def plus(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """An instance that keeps its tables of check results to itself, as Dagster+ does."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("Not callable from user cloud")

    for name in ("get_asset_check_partition_info", "get_asset_check_execution_history"):
        monkeypatch.setattr(instance.event_log_storage, name, refuse)
    return instance


def judge(instance: dg.DagsterInstance, region: str, passed: bool, words: str, check: str = KEY.name) -> None:
    result = dg.AssetCheckEvaluation(
        asset_key=KEY.asset_key, check_name=check, passed=passed, partition=region, description=words
    )
    report(instance, [result])


def story(instance: dg.DagsterInstance) -> None:
    judge(instance, "mono", False, "no money")
    judge(instance, "mono", False, "no money again")
    judge(instance, "poly", True, "it made a model")
    judge(instance, "poly", False, "of another check", "other")


def test_a_check_of_a_region_may_be_found_wanting_again_and_again(instance: dg.DagsterInstance) -> None:
    story(instance)
    assert [found.result.description for found in failures(instance, [KEY])] == ["no money", "no money again"]


def test_dagster_plus_says_the_same_by_its_events(plus: dg.DagsterInstance) -> None:
    story(plus)
    assert [found.result.description for found in failures(plus, [KEY])] == ["no money", "no money again"]
