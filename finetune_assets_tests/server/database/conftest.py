"""Stores over a database of each kind, so that every test is run on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from finetune_assets.server.database.stores import Stores
from finetune_assets.server.shared import Shared
from finetune_assets_tests.postgres_server import new_schema

Change = Callable[[str], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest) -> Shared:
    """Nothing, or a database that has never been opened."""
    return Shared() if request.param == "sqlite" else Shared(new_schema(request.getfixturevalue("postgres")))


@pytest.fixture
def stores(tmp_path: Path, shared: Shared) -> Iterator[Stores]:
    """Empty stores."""
    opened = Stores(tmp_path, shared)
    yield opened
    opened.close()


@pytest.fixture
def change(stores: Stores) -> Change:
    """Changes rows behind the stores' back."""

    def run(statement: str) -> None:
        with stores.database.writing() as session:
            session.execute(text(statement))

    return run
