"""The server's folder: the key that opens the API, and the lock that keeps a second server out."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.running import SERVER_LOCK, running
from finetune_assets.server import durable

KEY_VARIABLE = "FINETUNE_ASSETS_API_KEY"


class HomeInUseError(FinetuneAssetsError, RuntimeError):
    """Another server is running on the same folder."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What opens the API. Only its place is ever shown."""

    value: str = field(repr=False)
    place: str
    """Where a person finds it."""
    kept: Literal["environment", "file"]
    """Where a program finds it."""


def api_key(home: Path) -> ApiKey:
    """Take the key from the environment, else from the folder, where one is made at the first start (mode 0600)."""
    if key := os.environ.get(KEY_VARIABLE, "").strip():
        return ApiKey(key, f"the one in the environment variable {KEY_VARIABLE}", "environment")
    path = home / "api_key"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        durable.write(path, f"sk-local-{secrets.token_urlsafe(32)}\n".encode())
    return ApiKey(path.read_text().strip(), f"in the file {path}", "file")


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the folder, which nobody else may read; the system lets go of it when the process ends, however it ends.

    Raises:
        HomeInUseError: another process holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with suppress(PermissionError):  # of another user's folder, which that one answers for
        home.chmod(0o700)
    with (home / SERVER_LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            where = f" at {found.url}" if (found := running(home)) else ""
            raise HomeInUseError(
                f"a server (process {holder}) already runs on {home}{where}; "
                "use that, or stop it, or choose another folder with --home"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
