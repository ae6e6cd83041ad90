"""The sensor that counts the days of the regions' models."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from finetune_assets.pipeline.component import build_task
from finetune_assets.pipeline.following.model_watch import MAX_REGIONS_PER_TICK, Memory, model_sensor
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider

MODEL_KEY = dg.AssetKey(["cells", "finetuned_model"])
IN_60_DAYS = datetime.now(UTC).date() + timedelta(days=60)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as provider:
        yield provider


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def make_model(instance: dg.DagsterInstance, region: str = "mono") -> None:
    """Materialise `finetuned_model` as a run does."""
    facts = {"model": "deployed", "fine_tuned_model": f"ft:base:org::{region}", "base_model": "base"}
    instance.report_runless_asset_event(dg.AssetMaterialization(MODEL_KEY, partition=region, metadata=facts))


def tick(task: Task, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    result = model_sensor(task)(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def a_day_later(result: dg.SensorResult) -> str:
    """What the sensor remembers, as if its models had been judged yesterday."""
    memory = Memory.model_validate_json(result.cursor or "")
    for model in memory.models.values():
        model.day = "2026-01-01"
    return memory.model_dump_json()


def test_an_end_that_is_announced_later_warns_with_the_days_left(
    provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    task = make_task(provider=provider.base_url)
    make_model(instance)
    today = tick(task, instance)
    provider.add_model("base", str(IN_60_DAYS))

    tomorrow = tick(task, instance, a_day_later(today))

    assert not today.asset_events
    [warning] = tomorrow.asset_events
    assert isinstance(warning, dg.AssetCheckEvaluation)
    assert (warning.asset_key, warning.check_name, warning.partition) == (MODEL_KEY, "model_stays", "mono")
    assert (warning.passed, warning.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"base ends on {IN_60_DAYS}, in 60 days" in (warning.description or "")
    assert warning.metadata["days_left"].value == 60


def test_it_looks_once_a_day_and_stores_other_words_only(
    provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    task = make_task(provider=provider.base_url)
    provider.add_model("base", str(IN_60_DAYS))
    make_model(instance)
    first = tick(task, instance, a_day_later(tick(task, instance)))
    again = tick(task, instance, first.cursor)
    same = tick(task, instance, a_day_later(again))
    provider.add_model("base", str(IN_60_DAYS - timedelta(days=1)))
    nearer = tick(task, instance, a_day_later(same))

    assert [len(result.asset_events) for result in (first, again, same, nearer)] == [1, 0, 0, 1]
    assert "in 59 days" in (nearer.asset_events[0].description or "")


def test_the_result_is_stored_for_its_region(provider: ScriptedProvider, instance: dg.DagsterInstance) -> None:
    task = make_task(provider=provider.base_url, checks={"model_stays": "error"})
    provider.add_model("base", str(IN_60_DAYS))
    make_model(instance)
    for event in tick(task, instance, a_day_later(tick(task, instance))).asset_events:
        instance.report_runless_asset_event(event)

    key = dg.AssetCheckKey(MODEL_KEY, "model_stays")
    [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert (record.partition, record.status.value) == ("mono", "FAILED")
    evaluation = record.evaluation
    assert evaluation and evaluation.severity == dg.AssetCheckSeverity.ERROR


def test_many_regions_are_looked_at_over_several_ticks(
    provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    regions = [f"r{number}" for number in range(MAX_REGIONS_PER_TICK + 5)]
    task = make_task(provider=provider.base_url, regions=regions)
    provider.add_model("base", str(IN_60_DAYS))
    for region in regions:
        make_model(instance, region)
    first = tick(task, instance, a_day_later(tick(task, instance)))
    second = tick(task, instance, first.cursor)
    assert [len(result.asset_events) for result in (first, second)] == [MAX_REGIONS_PER_TICK, 5]


def test_a_silent_provider_is_asked_again_and_a_region_that_is_gone_is_not(instance: dg.DagsterInstance) -> None:
    make_model(instance)
    task = make_task(provider="http://127.0.0.1:9/v1")
    known = a_day_later(tick(task, instance))
    silent = tick(task, instance, known)
    assert isinstance(silent.skip_reason, dg.SkipReason) and "does not answer" in (
        silent.skip_reason.skip_message or ""
    )
    assert not tick(make_task(provider="http://127.0.0.1:9/v1", regions=["poly"]), instance, known).asset_events


def test_a_task_that_switches_the_check_off_has_no_such_sensor() -> None:
    def sensors(**changes: object) -> set[str]:
        return {sensor.name for sensor in build_task(make_task(**changes)).sensors or []}

    assert sensors() - sensors(checks={"model_stays": "off"}) == {"cells_models"}
