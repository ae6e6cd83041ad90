"""A provider that stands as a test says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finetune_assets_tests.provider.answering_provider import AnsweringProvider, answering_provider
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as provider:
        yield provider


@pytest.fixture
def answering() -> Iterator[AnsweringProvider]:
    """Repeats the words it is asked, unless a test gives it another `answer`."""
    with answering_provider(AnsweringProvider()) as provider:
        yield provider
