"""The database: its migrations, several processes at once, and a server that is not there."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, make_url, text

from finetune_assets.server.database.connection import Database, DatabaseUnreachableError
from finetune_assets.server.database.migrations import MIGRATIONS, DatabaseTooNewError
from finetune_assets.server.database.postgres import DatabaseAddressError
from finetune_assets.server.database.schema import Row, StoredFile, new_id
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.shared import Shared
from finetune_assets_tests.postgres_server import new_schema


def shape(engine: Engine) -> dict[str, Any]:
    """Every table's columns, with type and nullability, and its indexes."""
    inspector = inspect(engine)
    return {
        table: (
            {str(c["name"]): (str(c["type"]), bool(c["nullable"])) for c in inspector.get_columns(table)},
            {str(i["name"]): i["column_names"] for i in inspector.get_indexes(table) if not i["unique"]},
        )
        for table in sorted(inspector.get_table_names())
        if not table.startswith("sqlite_") and table != "home"  # one row, which no class stands for
    }


def test_the_migrations_arrive_at_the_mapped_tables(tmp_path: Path) -> None:
    Database(tmp_path / "migrated.db").close()
    migrated, mapped = (create_engine(f"sqlite:///{tmp_path / name}.db") for name in ("migrated", "mapped"))
    Row.metadata.create_all(mapped)
    assert shape(migrated) == shape(mapped)


def test_postgresql_begins_with_the_same_tables_once(postgres: str) -> None:
    address = new_schema(postgres)
    first, second = Database(address), Database(address)
    assert first.home == second.home
    engine = create_engine(make_url(address).set(drivername="postgresql+psycopg"))
    assert shape(engine).keys() == Row.metadata.tables.keys()
    with engine.begin() as connection:
        connection.execute(text("UPDATE home SET version = 99"))
    with pytest.raises(DatabaseTooNewError, match="version 99"):
        Database(address)
    for opened in (first, second):
        opened.close()
    engine.dispose()


def test_a_postgresql_of_an_earlier_version_is_brought_up_to_date(postgres: str) -> None:
    address = new_schema(postgres)
    Database(address).close()
    engine = create_engine(make_url(address).set(drivername="postgresql+psycopg"))
    whole = shape(engine)
    with engine.begin() as connection:  # as it was before completions were kept, and answers graded
        connection.execute(text("DROP TABLE completions"))
        connection.execute(text("ALTER TABLE jobs DROP COLUMN reinforcement"))
        connection.execute(text("UPDATE home SET version = 5"))
    Database(address).close()
    assert shape(engine) == whole
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version FROM home")).scalar_one() == len(MIGRATIONS)
    engine.dispose()


@pytest.mark.parametrize("address", ["mysql://ann:secret@db/x", "postgresql+asyncpg://ann:secret@db/x", "secret"])
def test_an_address_that_cannot_be_used_is_refused_without_repeating_a_password(address: str) -> None:
    with pytest.raises(DatabaseAddressError, match=r"postgresql\+psycopg://user") as refused:
        Database(address)
    assert "secret" not in str(refused.value)


def test_a_database_that_does_not_answer_is_named_as_that(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachableError, match="does not answer"):
        Database(f"postgresql://ann@/postgres?host={tmp_path}")


def test_connections_that_were_closed_meanwhile_are_replaced(postgres: str, tmp_path: Path) -> None:
    stores = Stores(tmp_path, Shared(new_schema(postgres)))
    for _ in range(3):
        assert stores.files.get("file-x") is None
        with stores.database.writing() as session:
            session.add(StoredFile(id=new_id("file-"), filename="a", purpose="vision", bytes=0, content=""))
        with suppress(DatabaseUnreachableError), stores.database.reading() as session:
            session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> 0"))
    assert len(stores.files.page(purpose=None, after=None, limit=9, ascending=True).items) == 3
    stores.close()


def test_opening_a_database_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    for _ in range(2):
        Database(path).close()
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "server.db").execute("PRAGMA user_version = 99")
    with pytest.raises(DatabaseTooNewError, match="version 99"):
        Database(tmp_path / "server.db")


def add_files(home: Path, shared: Shared, n: int) -> None:
    stores = Stores(home, shared)
    for _ in range(n):
        with Path("/dev/null").open("rb") as nothing:
            stores.files.add(nothing, filename="empty", purpose="batch")


def test_several_processes_write_at_once_and_lose_nothing(stores: Stores) -> None:
    other = multiprocessing.get_context("spawn").Process(target=add_files, args=(stores.home, stores.shared, 50))
    other.start()
    while stores.files.page(purpose=None, after=None, limit=1, ascending=True).items == [] and other.is_alive():
        time.sleep(0.01)
    add_files(stores.home, stores.shared, 50)
    other.join()
    rows = stores.files.page(purpose=None, after=None, limit=1000, ascending=True)
    assert len({row.number for row in rows.items}) == 100
    assert other.exitcode == 0
