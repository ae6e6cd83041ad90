"""Fixtures of the store's tests: an empty database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase


@pytest.fixture
def db(tmp_path: Path) -> Iterator[FeedbackDatabase]:
    """An empty database."""
    with FeedbackDatabase(f"sqlite:///{tmp_path / 'feedback.sqlite'}") as opened:
        yield opened
