"""Fixtures of the store's tests: an empty database of each kind, so that every test is run on both."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets_tests.postgres_server import new_schema


@pytest.fixture(params=["sqlite", "postgresql"])
def new_address(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes URLs of databases that have never been opened."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / uuid.uuid4().hex}.sqlite"
    server = request.getfixturevalue("postgres")
    return lambda: new_schema(server)


@pytest.fixture
def address(new_address: Callable[[], str]) -> str:
    """URL of a database that has never been opened."""
    return new_address()


@pytest.fixture
def db(address: str) -> Iterator[FeedbackDatabase]:
    """An empty database."""
    with FeedbackDatabase(address) as opened:
        yield opened
