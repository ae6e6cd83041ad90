"""The database that the machines of a team have in common: that of the reviewers, where it is one of PostgreSQL.

`FINETUNE_ASSETS_FEEDBACK_DB` names it. Beside the reviewers' decisions it then holds what pipelines on several machines
may not have each for themselves: models' answers, so that none is paid for twice, and turns, so that what costs money
is asked for once. Without it, both lie in files of the one machine. SQLAlchemy is loaded only where such a database is
named.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from finetune_assets.errors import FeedbackDatabaseError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

VARIABLE = "FINETUNE_ASSETS_FEEDBACK_DB"
_LONGEST_TURN_S = 3600
"""How long a turn is waited for: a provider that asks for pauses may keep another process busy for half of it."""
# A machine that vanished does not close its connections; without these its turn would last for hours.
_TURN = {
    "lock_timeout": f"{_LONGEST_TURN_S}s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


def address() -> str | None:
    """Return the URL of the database that machines have in common; None where this one has files of its own."""
    said = os.environ.get(VARIABLE, "")
    return said if said.partition(":")[0].partition("+")[0] in ("postgresql", "postgres") else None


def parsed(text: str) -> URL:
    """Read the URL of a database.

    Raises:
        FeedbackDatabaseError: it is none, or of another kind than SQLite and PostgreSQL.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except ArgumentError:
        # What is no URL is not repeated: it may still hold a password.
        raise FeedbackDatabaseError(f"{VARIABLE} must be a URL such as postgresql://user@host/name") from None
    # Which driver a bare URL means has changed between versions of SQLAlchemy.
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise FeedbackDatabaseError(f"{VARIABLE} must be of sqlite or postgresql, not of {url.drivername}")
    return url


def engine(url: URL) -> Engine:
    """Open a PostgreSQL database; connections are made when they are needed.

    Raises:
        FeedbackDatabaseError: its driver is not installed.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError

    try:
        # A connection that the server has closed meanwhile is replaced instead of failing a reviewer's answer.
        # Parameters hold what reviewers wrote, which no log is to repeat.
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10}, hide_parameters=True)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise FeedbackDatabaseError(
            f"the driver of {url.drivername} is not installed ({error}): pip install 'finetune_assets[feedback]'"
        ) from None


def common_engine() -> tuple[URL, Engine]:
    """Open the database that machines have in common, where `address` says that there is one.

    Raises:
        FeedbackDatabaseError: the URL is none, or what reads it is not installed.
    """
    try:
        url = parsed(address() or "")
    except ModuleNotFoundError as error:
        raise FeedbackDatabaseError(
            f"{VARIABLE} names PostgreSQL, and {error.name} is not installed: pip install 'finetune_assets[feedback]'"
        ) from None
    return url, engine(url)


def run(connection: Connection, statement: str, values: Any = None) -> Any:
    """Run a statement with values by name; with a list of them, once for each."""
    from sqlalchemy import text

    return connection.execute(text(statement), values)


@contextmanager
def telling_of_trouble(url: URL) -> Iterator[None]:
    """Say which database does not answer.

    Raises:
        FeedbackDatabaseError: it cannot be reached, or others keep it for too long.
    """
    from sqlalchemy.exc import InterfaceError, OperationalError

    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise FeedbackDatabaseError(
            f"the feedback database {without_secrets(url)} does not answer ({error.orig}): "
            f"look whether it runs, and at {VARIABLE}"
        ) from error


def without_secrets(url: URL) -> str:
    """Name a database in a message."""
    return f"{url.get_backend_name()} {url.database or ''}" + (f" on {url.host}" if url.host else "")


@contextmanager
def turn(name: str) -> Iterator[Callable[[], None]]:
    """Wait until nobody else of the team has the turn of this name, and have it.

    It is an advisory lock of one transaction: the server takes it back when the process ends, however that happens, and
    a proxy that shares connections cannot give it to others. Where the connection breaks, it is lost while the process
    goes on; so whoever has it asks, right before what may be done once, by calling what is given here.

    Raises:
        FeedbackDatabaseError: the database cannot be reached, the turn was waited for too long, or it is lost.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    url, opened = common_engine()
    with ExitStack() as closing:
        closing.callback(opened.dispose)
        with telling_of_trouble(url):
            connection = opened.connect()
            closing.callback(_close, connection)
            for setting, value in _TURN.items():
                run(connection, "SELECT set_config(:name, :value, true)", {"name": setting, "value": value})
            run(connection, "SELECT pg_advisory_xact_lock(:number)", {"number": number})

        def require() -> None:
            with telling_of_trouble(url):
                run(connection, "SELECT 1")

        yield require


def _close(connection: Connection) -> None:
    from sqlalchemy.exc import DBAPIError

    # Where it broke, the turn went with it, which is what closing is for; what was done in it is done.
    with suppress(DBAPIError):
        connection.close()
