"""Turns of machines that share a database: one at a time, given back however a process ends, and known to be lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from sqlalchemy import text

from finetune_assets import common_database
from finetune_assets.common_database import turn
from finetune_assets.errors import FeedbackDatabaseError
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.postgres_server import new_schema

HOLD = """
import sys
from finetune_assets.common_database import turn
with turn("job"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def shared(postgres: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(common_database.VARIABLE, new_schema(postgres))
    return os.environ[common_database.VARIABLE]


def end_connections() -> None:
    """Break all that hold a turn, as a network or a database that is restarted does."""
    _, engine = common_database.common_engine()
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid != pg_backend_pid()"
            )
        )
    engine.dispose()


@pytest.mark.parametrize("url", [None, "", "sqlite:///a.sqlite", "postgresqlx://host/name"])
def test_without_postgresql_machines_have_nothing_in_common(url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(common_database.VARIABLE)
    if url is not None:
        monkeypatch.setenv(common_database.VARIABLE, url)
    assert common_database.address() is None


def test_others_wait_for_a_turn_and_for_no_other(shared: str) -> None:
    entered, order = threading.Event(), []

    def second() -> None:
        entered.set()
        with turn("job"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with turn("job") as require:
        waiting.start()
        assert entered.wait(PATIENCE_S)
        with turn("another"):
            order.append("another")
        require()
        order.append("first")
    waiting.join(PATIENCE_S)
    assert order == ["another", "first", "second"], shared


def test_a_process_that_is_killed_gives_its_turn_back(shared: str) -> None:
    holding = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holding.stdout and holding.stdout.readline() == "mine\n", shared
    holding.send_signal(signal.SIGKILL)
    with turn("job") as require:
        require()
    holding.communicate()


def test_who_has_lost_the_turn_is_told_before_anything_is_done(shared: str) -> None:
    with turn("job") as require:
        end_connections()
        with pytest.raises(FeedbackDatabaseError, match="does not answer"):
            require()
        with turn("job") as again:
            again()
    assert shared


def test_what_was_done_in_a_turn_that_was_lost_meanwhile_is_done(shared: str) -> None:
    with turn("job"):
        end_connections()
    assert shared


def test_a_database_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(common_database.VARIABLE, "postgresql://ann:secret@127.0.0.1:1/reviews")
    with (
        pytest.raises(FeedbackDatabaseError, match="postgresql reviews on 127.0.0.1 does not answer") as raised,
        turn("a"),
    ):
        pass
    assert "secret" not in str(raised.value)
