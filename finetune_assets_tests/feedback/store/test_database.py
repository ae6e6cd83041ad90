"""The database is brought up to date when it is opened, and says what is wrong without saying its secrets."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text

from finetune_assets.errors import FeedbackDatabaseError
from finetune_assets.feedback.store.database import FeedbackDatabase, url
from finetune_assets.feedback.store.migrations import MIGRATIONS, DatabaseTooNewError
from finetune_assets.feedback.store.schema import metadata


def columns(connection: Connection) -> dict[str, dict[str, tuple[str, bool]]]:
    """Type and nullability of every column of every table."""
    inspector = inspect(connection)
    return {
        table: {str(c["name"]): (str(c["type"]), bool(c["nullable"])) for c in inspector.get_columns(table)}
        for table in metadata.tables
    }


def test_the_migrations_arrive_at_the_tables_of_the_schema(new_address: Callable[[], str]) -> None:
    with FeedbackDatabase(new_address()) as db, db.writing() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        expected = columns(connection)
    with FeedbackDatabase(new_address()) as db, db.reading() as connection:
        assert columns(connection) == expected


def test_opening_a_database_again_changes_nothing(address: str) -> None:
    for _ in range(2):
        with FeedbackDatabase(address) as db, db.reading() as connection:
            assert connection.scalars(text("SELECT version FROM feedback_schema")).all() == [len(MIGRATIONS)]


def test_a_database_of_a_later_version_is_refused(address: str) -> None:
    with FeedbackDatabase(address) as db, db.writing() as connection:
        connection.execute(text("UPDATE feedback_schema SET version = 99"))
    with pytest.raises(DatabaseTooNewError, match="version 99"):
        FeedbackDatabase(address)


def open_it(address: str) -> None:
    FeedbackDatabase(address).close()


def test_several_processes_open_a_new_database_at_once(new_address: Callable[[], str]) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        for _ in range(5):
            list(pool.map(open_it, [new_address()] * 3))


def test_without_a_url_it_is_a_file_below_var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINETUNE_ASSETS_FEEDBACK_DB", raising=False)
    FeedbackDatabase().close()
    assert (tmp_path / "var" / "feedback.sqlite").exists()
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", "sqlite:///elsewhere.sqlite")
    assert url() == "sqlite:///elsewhere.sqlite"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://ann:secret@127.0.0.1:1/reviews?password=secret", "postgresql reviews on 127.0.0.1 does not"),
        ("mysql://ann:secret@host/reviews", "sqlite or postgresql, not of mysql"),
        ("ann:secret@host", "must be a URL"),
        ("sqlite:////proc/nowhere/f.sqlite", "sqlite /proc/nowhere/f.sqlite cannot be made"),
    ],
)
def test_a_database_that_cannot_be_opened_says_so_and_no_secret(address: str, says: str) -> None:
    with pytest.raises(FeedbackDatabaseError, match=says) as raised:
        FeedbackDatabase(address)
    assert "secret" not in str(raised.value)
