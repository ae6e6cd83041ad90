"""Bytes in an object store that several homes share, reached by fsspec: `s3://bucket/prefix`, or another of its kinds.

A name is written once, before the row that speaks of it is committed, and under a name that no other attempt uses; a
folder's list of files and digests is written last. So nobody reads a part of anything, whatever ends in between. What
is read is kept in `<home>/cache`. What no record speaks of is left where it is: it may be on its way in, elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import secrets
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.durable import publish
from finetune_assets.server.removal import Removal
from finetune_assets.server.shortage import STORE, ShortageError, shortage_of
from finetune_assets.server.storage import Storage

VARIABLE = "FINETUNE_ASSETS_STORE"
MANIFEST = "manifest.json"
"""Beside the files of a folder: the SHA-256 of each by its name."""
CACHED_SECONDS = 86_400.0
"""How long what nobody reads stays in the cache."""
_MARK = "database.json"
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Seconds between tries, each longer by up to half."""

Done = TypeVar("Done")
logger = logging.getLogger(__name__)


class StoreUnreachableError(ShortageError, ConnectionError):
    """The object store does not do what it is asked for, however often. It may soon."""

    def __init__(self, message: str) -> None:
        super().__init__(STORE, message)


class StoreRefusedError(FinetuneAssetsError, ValueError):
    """The object store cannot be used: its address is none, or it belongs to another database."""


class Bucket(Storage):
    """A prefix of an object store.

    Raises:
        StoreRefusedError: the address is none of a kind of store that is installed.
    """

    shared = True
    removed_at_once = 20

    def __init__(self, url: str, home: Path, removal: Removal) -> None:
        super().__init__(home, removal)
        self._url = url
        self._files, root = _open(url)
        self._root = root.rstrip("/")
        self._cache = home / "cache"
        self._fetching: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def belong_to(self, database: str) -> None:
        """Mark the store as that of a database, by its id.

        Raises:
            StoreRefusedError: another database speaks of what is in it, or nothing can be written there.
        """
        try:
            try:
                found = json.loads(self._insist(lambda: self._files.cat_file(self._at(_MARK))))["database"]
            except FileNotFoundError:
                found = database
                self._insist(lambda: self._files.pipe_file(self._at(_MARK), json.dumps({"database": found}).encode()))
        except (PermissionError, FileNotFoundError) as error:
            raise StoreRefusedError(f"the store {self._url} cannot be used: {error}") from error
        if found != database:
            raise StoreRefusedError(
                f"the store {self._url} belongs to another database ({found}, not {database}): name the database that "
                "was used with it, or another prefix"
            )

    def send(self, scratch: Path, name: str) -> None:
        """Upload a file; what has the name is the same, or of no meaning to anyone."""
        size = scratch.stat().st_size

        def upload() -> None:
            self._files.put_file(str(scratch), self._at(name))
            self._expect(name, size)

        self._insist(upload)

    def keep(self, scratch: Path, name: str) -> None:
        """See that a file is there, which may have been removed since it was sent."""
        if not self._insist(lambda: self._files.exists(self._at(name))):
            self.send(scratch, name)
        scratch.unlink()

    def publish(self, folder: Path, name: str) -> str:
        """Upload a folder's files, and then what they are."""
        sums: dict[str, str] = {}
        for path in sorted(folder.iterdir()):
            self.send(path, f"{name}/{path.name}")
            sums[path.name] = _sum(path)
        data = json.dumps(sums).encode()
        self._insist(lambda: self._files.pipe_file(self._at(f"{name}/{MANIFEST}"), data))
        return name

    def fetch(self, name: str) -> Path:
        """Bring a file or a folder here, unless it is."""
        target = self._cache / name
        with self._fetching[name]:
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
                try:
                    self._insist(lambda: self._download(name, scratch))
                    publish(scratch, target)
                finally:
                    _discard(scratch)
            os.utime(target)
        return target

    def remove(self, name: str) -> None:
        """Remove a file or folder; later, where the store does not do it now."""
        _discard(self._cache / name)
        _discard(self._home / name)
        try:
            with suppress(FileNotFoundError):
                self._insist(lambda: self._files.rm(self._at(name), recursive=True))
        except StoreUnreachableError as error:
            logger.warning("%s is removed later: %s", name, error)
            self._removal.postponed = True

    def written_at(self, name: str) -> float:
        """Bytes in a store that is shared are removed by what their rows say: the clocks of its users may differ."""
        del name
        return 0.0

    def set_aside(self, name: str) -> None:
        """Leave what no record speaks of: it may be on its way in."""

    def names(self, folder: str) -> list[str]:
        """Name what is in a folder."""
        try:
            found = self._insist(lambda: self._files.ls(self._at(folder), detail=False))
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in found]

    def tidy(self) -> None:
        """Empty the cache of what nobody has read for long."""
        old = time.time() - CACHED_SECONDS
        for kind in self._cache.glob("*"):
            for entry in kind.rglob("*") if kind.name == "files" else kind.glob("*/*/*"):
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime < old:
                        _discard(entry)

    def _download(self, name: str, scratch: Path) -> None:
        _discard(scratch)
        manifest = self._at(f"{name}/{MANIFEST}")
        try:
            sums = json.loads(self._files.cat_file(manifest)) if not name.startswith("files/") else None
        except FileNotFoundError:
            sums = None
        if sums is None:
            self._files.get_file(self._at(name), str(scratch))
            self._expect(name, scratch.stat().st_size)
            return
        scratch.mkdir()
        for file, expected in sums.items():
            self._files.get_file(self._at(f"{name}/{file}"), str(scratch / file))
            if _sum(scratch / file) != expected:
                raise OSError(f"{name}/{file} has not come in as it was kept")

    def _expect(self, name: str, size: int) -> None:
        found = self._files.info(self._at(name))["size"]
        if found != size:
            raise OSError(f"{name} has {found} bytes in the store, and {size} here")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _insist(self, act: Callable[[], Done]) -> Done:
        """Try again what a store did not do at once.

        Raises:
            StoreUnreachableError: it did not do it at all.
            FileNotFoundError: there is no such file, or no such bucket.
            PermissionError: it is not allowed to.
        """
        for pause in (*_PAUSES, None):
            try:
                return act()
            except (FileNotFoundError, PermissionError):
                raise
            except Exception as error:  # each kind of store has errors of its own
                if shortage_of(error):
                    raise  # of this machine: a full disk does not pass in seconds
                if pause is None:
                    raise StoreUnreachableError(f"the store {self._url} does not answer: {error}") from error
                time.sleep(pause * random.uniform(1, 1.5))
        raise AssertionError


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    if "://" not in url:
        raise StoreRefusedError(f"--store (or {VARIABLE}) must be a URL such as s3://bucket/prefix, not {url!r}")
    local = url.startswith(("file://", "local://"))
    try:
        return fsspec.url_to_fs(url, **({"auto_mkdir": True} if local else {"use_listings_cache": False}))
    except (ImportError, ValueError) as error:
        raise StoreRefusedError(f"--store (or {VARIABLE}): {error}") from error


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
