"""What checks have found, read as Dagster and as Dagster+ allow it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from finetune_assets.pipeline.checks.history import failures, keep_results, report

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


def test_a_sensor_s_second_result_for_a_region_is_stored_as_the_first_one_was(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as kept:
        context = dg.SensorEvaluationContext(
            kept.get_ref(), last_tick_completion_time=None, last_run_key=None, cursor=None, repository_name=None
        )
        with context:
            for words in ("no money", "no money again"):
                failed = dg.AssetCheckEvaluation(
                    asset_key=KEY.asset_key, check_name=KEY.name, passed=False, partition="mono", description=words
                )
                observed = dg.AssetObservation(KEY.asset_key, words, partition="mono")
                for event in keep_results(context, [failed, observed]):
                    kept.report_runless_asset_event(event)  # as the daemon does, which fails at the second check result
        assert [found.result.description for found in failures(kept, [KEY])] == ["no money", "no money again"]
