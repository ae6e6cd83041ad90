"""Fixtures of the store's tests: an empty database of each kind, so that every test is run on both."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.schema import CreateSchema

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets_tests.postgres_server import running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server. Without fsync, which matters to a machine that crashes, not to a process."""
    with running_postgres("fsync=off") as url:
        yield url


def new_schema(server: str) -> str:
    """Make an empty schema, which is a hundred times as fast as a database; the URL of connections that see only it."""
    url, name = make_url(server).set(drivername="postgresql+psycopg"), f"test_{uuid.uuid4().hex}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(CreateSchema(name))
    engine.dispose()
    seen = url.update_query_dict({"options": f"-csearch_path={name}"})
    return seen.set(drivername="postgresql").render_as_string(hide_password=False)


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
