"""The database file: its migrations, and several processes at once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.migrations import MIGRATIONS, DatabaseTooNewError
from finetune_assets.server.database.schema import Row
from finetune_assets.server.database.stores import Stores


def columns(path: Path) -> dict[str, dict[str, tuple[str, bool]]]:
    """Type and nullability of every column of every table."""
    inspector = inspect(create_engine(f"sqlite:///{path}"))
    return {
        table: {str(c["name"]): (str(c["type"]), bool(c["nullable"])) for c in inspector.get_columns(table)}
        for table in sorted(inspector.get_table_names())
        if not table.startswith("sqlite_") and table != "home"  # one row, which only `seal` reads
    }


def test_the_migrations_arrive_at_the_mapped_tables(tmp_path: Path) -> None:
    Database(tmp_path / "migrated.db").close()
    Row.metadata.create_all(create_engine(f"sqlite:///{tmp_path / 'mapped.db'}"))
    assert columns(tmp_path / "migrated.db") == columns(tmp_path / "mapped.db")


def test_opening_a_database_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    for _ in range(2):
        Database(path).close()
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "server.db").execute("PRAGMA user_version = 99")
    with pytest.raises(DatabaseTooNewError, match="version 99"):
        Database(tmp_path / "server.db")


def add_files(home: Path, n: int) -> None:
    stores = Stores(home)
    for _ in range(n):
        with Path("/dev/null").open("rb") as nothing:
            stores.files.add(nothing, filename="empty", purpose="batch")


def test_several_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_files, args=(tmp_path, 50)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    rows = Stores(tmp_path).files.page(purpose=None, after=None, limit=1000, ascending=True)
    assert len({row.number for row in rows.items}) == 100
    assert [process.exitcode for process in processes] == [0, 0]
