"""A provider that stands as a test says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as provider:
        yield provider
