"""The asset `finetune_jobs`, made by hand and kept up by its sensor."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from finetune_assets.pipeline.shown.jobs_overview import KEY, jobs_overview
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProvider]:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")
    with scripted_provider() as provider:
        yield provider


def look(definitions: dg.Definitions, cursor: str | None = None) -> dg.SensorResult:
    sensor = definitions.get_sensor_def("finetune_jobs_overview")
    with dg.DagsterInstance.ephemeral() as instance:
        result = sensor(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def test_the_sensor_stores_the_table_when_it_has_changed(provider: ScriptedProvider) -> None:
    definitions = jobs_overview([make_task(provider=provider.base_url)])
    provider.add_job("ftjob-1", "queued", metadata={"task": "cells", "region": "mono"})
    first = look(definitions)
    same = look(definitions, first.cursor)
    provider.add_job("ftjob-1", "failed", error={"code": "x", "message": "no money", "param": None})
    changed = look(definitions, same.cursor)

    [stored], [again] = first.asset_events, changed.asset_events
    assert stored.asset_key == again.asset_key == KEY
    assert "cells" in str(stored.metadata["jobs"].value) and stored.metadata["n_queued"].value == 1
    assert "no money" in str(again.metadata["jobs"].value)
    assert not same.asset_events


def test_it_is_made_by_hand_too(provider: ScriptedProvider) -> None:
    provider.add_job("ftjob-1", "succeeded")
    definitions = jobs_overview([make_task(provider=provider.base_url), make_task(provider="http://127.0.0.1:9/v1")])

    result = dg.materialize([definitions.get_assets_def(KEY)])

    [made] = result.asset_materializations_for_node("finetune_jobs")
    assert made.metadata["n_succeeded"].value == 1
    assert "127.0.0.1:9" in str(made.metadata["not_asked"].value)
