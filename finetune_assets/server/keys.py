"""The keys that open the API: whose they are, what they are for, and how often they may ask.

The server's own key opens everything. More are added to `<home>/keys.json`, which holds their SHA-256 alone and is read
again when it changes, so that a key is given or taken away while the server runs. What keys change is noted in
`<home>/audit.jsonl`, to which lines are only ever added.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import durable
from finetune_assets.server.api.body_shape import ASKING
from finetune_assets.server.database.usage import NOBODY, Account

logger = logging.getLogger(__name__)
FILE = "keys.json"
AUDIT = "audit.jsonl"
SCOPES = {
    "read": "look at everything that the server has",
    "chat": "ask models, one by one and in batches",
    "train": "upload and delete files, train and delete models",
    "admin": "everything",
}
_WINDOW_SECONDS = 60.0
_NEEDED = (
    (re.compile(r"/v1/(chat|completions|responses|batches|decisions|systemone)\b"), ("chat",)),
    (re.compile(r"/v1/(files|uploads)(/|$)"), ("chat", "train")),
)
"""Scopes of which one is needed to change something under a path; elsewhere, `train`."""
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


class KeyNameError(FinetuneAssetsError, ValueError):
    """A key is named that there is not, or is there already, or asks for a scope that there is not."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    requests_per_minute: int | None = None
    created_at: int = 0
    jobs: int | None = None
    tokens_per_day: int | None = None
    disk_bytes: int | None = None

    @property
    def account(self) -> Account:
        """Whose what it makes is, and how much that may be."""
        return Account(self.name, self.jobs, self.tokens_per_day, self.disk_bytes)

    def may(self, method: str, path: str) -> bool:
        """Whether a request is within its scopes."""
        if "admin" in self.scopes:
            return True
        needed = ("read",) if method in _LOOKING else next((n for p, n in _NEEDED if p.match(path)), ("train",))
        return any(scope in self.scopes for scope in needed)


class Keys:
    """Knows keys when it sees them, and counts what those with a limit ask. For one event loop."""

    def __init__(self, home: Path, own: str) -> None:
        self._home = home
        self._own = Key("the server's own", _digest(own), ("admin",))
        self._more: list[Key] = []
        self._read_at = -1
        self._windows: dict[str, tuple[float, int]] = {}

    def find(self, value: str) -> Key | None:
        """Return the key of this value, or None. It takes as long whether the beginning is right or not."""
        digest = _digest(value)
        found = [key for key in (self._own, *self._listed()) if hmac.compare_digest(key.sha256, digest)]
        return found[0] if found else None

    def account(self, name: str) -> Account:
        """Return the account of the key of this name; one without limits if there is none any more."""
        return next((key.account for key in self._listed() if key.name == name), Account(name))

    def count(self, key: Key) -> tuple[int, float]:
        """Count a request of a key with a limit.

        Returns:
            How many are left, less than none if it was one too many; and the seconds until all are there again.
        """
        now = time.monotonic()
        began, asked = self._windows.get(key.name, (now, 0))
        if now - began >= _WINDOW_SECONDS:
            began, asked = now, 0
        self._windows[key.name] = (began, asked + 1)
        return (key.requests_per_minute or 0) - asked - 1, _WINDOW_SECONDS - (now - began)

    def note(self, key: Key, method: str, path: str, status: int, request_id: str) -> None:
        """Add a line to the audit log if the request changed something, or was not within the key's scopes."""
        if (method in _LOOKING or path in ASKING) and status != 403:
            return
        said = {"at": int(time.time()), "key": key.name, "method": method, "path": path[:500], "status": status}
        line = json.dumps(said | {"request_id": request_id}) + "\n"
        try:
            descriptor = os.open(self._home / AUDIT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:  # what was asked for is done, and is to be answered
            logger.error("The audit log cannot be written (%s); it lacks: %s", error, line.strip())

    def _listed(self) -> list[Key]:
        try:
            changed = (self._home / FILE).stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if changed != self._read_at:
            self._more, self._read_at = listed(self._home), changed
        return self._more


def listed(home: Path) -> list[Key]:
    """Read the keys that were added.

    Raises:
        KeyNameError: the file cannot be read.
    """
    path = home / FILE
    if not path.exists():
        return []
    try:
        return [Key(**said | {"scopes": tuple(said["scopes"])}) for said in json.loads(path.read_bytes())]
    except (ValueError, TypeError, KeyError) as error:
        raise KeyNameError(f"{path} cannot be read: {error}; put a backup of it there, or remove it") from error


def add(
    home: Path,
    name: str,
    scopes: Iterable[str],
    requests_per_minute: int | None = None,
    quotas: Account = NOBODY,
) -> str:
    """Make a key and return its value, which is kept nowhere.

    Raises:
        KeyNameError: the name is taken, or a scope is unknown.
    """
    keys, asked = listed(home), tuple(scopes)
    if any(key.name == name for key in keys):
        raise KeyNameError(f"there is a key of the name {name!r}; choose another, or remove it first")
    if unknown := [scope for scope in asked if scope not in SCOPES]:
        raise KeyNameError(f"there is no scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    value = f"sk-local-{secrets.token_urlsafe(32)}"
    limits = (requests_per_minute, int(time.time()), quotas.jobs, quotas.tokens, quotas.disk)
    _write(home, [*keys, Key(name, _digest(value), asked, *limits)])
    return value


def remove(home: Path, name: str) -> None:
    """Take a key away; the next request with it is refused.

    Raises:
        KeyNameError: there is none of this name.
    """
    keys = listed(home)
    if all(key.name != name for key in keys):
        raise KeyNameError(
            f"there is no key of the name {name!r}; there are {', '.join(k.name for k in keys) or 'none'}"
        )
    _write(home, [key for key in keys if key.name != name])


def _write(home: Path, keys: list[Key]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    durable.write(home / FILE, json.dumps([asdict(key) for key in keys], indent=1).encode())


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("latin-1", "replace")).hexdigest()
