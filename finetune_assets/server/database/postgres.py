"""How the server's PostgreSQL database is reached, and what its errors mean."""

from __future__ import annotations

import json

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from finetune_assets.errors import FinetuneAssetsError

VARIABLE = "FINETUNE_ASSETS_DATABASE"
_LOCK_SECONDS = 30
"""How long a writer waits for the others."""
_IDLE_SECONDS = 20
"""After which a transaction whose process does nothing more is undone: one that was stopped must not hold others up."""
_SETTINGS = f"-c lock_timeout={_LOCK_SECONDS}s -c idle_in_transaction_session_timeout={_IDLE_SECONDS}s"
# A machine that vanished does not close its connections; without these, that is noticed after hours.
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
_PASSING = ("08", "57", "55P03", "40", "53300", "25P03")
"""SQLSTATEs, or the beginnings of them: of connections, of a server that ends or starts, of waiting for others."""


class DatabaseAddressError(FinetuneAssetsError, ValueError):
    """The address of the server's database is none that it can use."""


def engine(address: str) -> Engine:
    """Open the database; connections are made when they are needed.

    Raises:
        DatabaseAddressError: this is no URL of PostgreSQL, or its driver is not installed.
    """
    url = _parsed(address)
    asked = url.query.get("options", "")
    settings = " ".join([asked if isinstance(asked, str) else " ".join(asked), _SETTINGS]).strip()
    try:
        return create_engine(
            url,
            # A connection that was closed meanwhile is replaced instead of failing a client's request.
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=20,
            connect_args={"connect_timeout": 10, "options": settings, **_ALIVE},
            # Parameters hold what clients wrote, which no log is to repeat.
            hide_parameters=True,
            json_deserializer=json.loads,
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise DatabaseAddressError(
            f"the driver of {url.drivername} is not installed ({error}): pip install 'finetune_assets[cluster]'"
        ) from None


def is_unreachable(error: DBAPIError) -> bool:
    """Whether the database was not reached, or kept others waiting: what may pass by itself."""
    if type(error.orig).__module__.partition(".")[0] != "psycopg":
        return False
    state = _state(error)
    return (
        error.connection_invalidated
        or (type(error.orig).__name__ == "OperationalError" and not state)
        or (state.startswith(_PASSING))
    )


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _parsed(address: str) -> URL:
    example = "postgresql+psycopg://user:password@host/name"
    try:
        url = make_url(address)
    except ArgumentError:
        # What is no URL is not repeated: it may still hold a password.
        raise DatabaseAddressError(f"--database (or {VARIABLE}) must be a URL such as {example}") from None
    # Which driver a bare URL means has changed between versions of SQLAlchemy.
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername != "postgresql+psycopg":
        message = (
            f"--database (or {VARIABLE}) must be of postgresql+psycopg, such as {example}, not of {url.drivername}"
        )
        raise DatabaseAddressError(f"{message}; a SQLite file is what --home holds without --database")
    return url
