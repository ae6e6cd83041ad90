"""What the tests of the job sensor begin with."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest

from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProvider]:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")
    with scripted_provider() as provider:
        yield provider


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def task(provider: ScriptedProvider) -> Task:
    return make_task(provider=provider.base_url, regions=["mono", "poly"])


@pytest.fixture
def far(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task whose provider has an address that is not this machine's by name, while the clock stands still."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setenv("0_0_0_0_API_KEY", "a key")
    return make_task(provider=provider.base_url.replace("127.0.0.1", "0.0.0.0"), regions=["mono", "poly"])  # noqa: S104
