"""Writes, syncs and renames that fail at any place: what was acknowledged stays, and nothing half-written is seen.

`INJECTED_ERRORS=200` tries as many places instead of the first few.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.server import durable
from finetune_assets.server.database.schema import StoredFile
from finetune_assets.server.database.uploads import UploadStateError
from finetune_assets.server.services import Services
from finetune_assets.server.shortage import ShortageError

PLACES = int(os.environ.get("INJECTED_ERRORS", "24"))
CALLS = ("fsync", "replace", "open", "rename", "mkdir")


@contextmanager
def failing(call: str, at: int) -> Iterator[None]:
    """The `at`-th time that `os` is asked for this, it says that the disk is full."""
    real: Callable[..., Any] = getattr(os, call)
    left = at

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, call, counted)
        yield


@pytest.mark.parametrize("place", range(PLACES))
def test_what_was_acknowledged_outlives_an_error_at_any_place(tmp_path: Path, place: int) -> None:
    served = Services(tmp_path)
    served.write_seal()
    acknowledged: list[tuple[StoredFile, bytes]] = []
    with failing(CALLS[place % len(CALLS)], 1 + place // len(CALLS)):
        for number in range(3):
            with suppress(OSError):
                content = f"content {number % 2}".encode()
                acknowledged.append((served.files.add(io.BytesIO(content), filename="a", purpose="vision"), content))
            with suppress(OSError, UploadStateError):
                upload = served.uploads.create(
                    filename="b", purpose="vision", size=4, mime_type="", file_expires_in=None
                )
                part = served.uploads.add_part(upload.id, io.BytesIO(b"part"))
                _, file = served.uploads.complete(upload.id, [part.id], None)
                acknowledged.append((file, b"part"))
            with suppress(OSError):
                served.write_seal()
            with suppress(OSError):
                served.snapshot()
    served.close()
    again = Services(tmp_path)
    again.files.remove_incoming()
    again.sweep()
    for file, content in acknowledged:
        found = again.files.get(file.id)
        assert found is not None
        assert again.files.verify(found).read_bytes() == content
    for row in again.files.page(purpose=None, after=None, limit=100, ascending=True).items:
        again.files.verify(row)
    for snapshot in (tmp_path / "snapshots").glob("*.db"):
        assert sqlite3.connect(snapshot).execute("PRAGMA quick_check").fetchone() == ("ok",)
    again.finish()


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_file_has_its_old_content_or_its_new(tmp_path: Path, call: str) -> None:
    path = tmp_path / "file"
    durable.write(path, b"old")
    with failing(call, 1), pytest.raises(OSError, match="No space left"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    durable.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o077 == 0


def test_everything_in_a_published_folder_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real(descriptor)

    rename = Path.replace

    def renamed(self: Path, target: Path) -> Path:
        done.append(f"rename {self.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", renamed)
    (tmp_path / "scratch/inner").mkdir(parents=True)
    (tmp_path / "scratch/inner/weights").write_bytes(b"x")
    durable.publish(tmp_path / "scratch", tmp_path / "model")
    assert done == ["sync weights", "sync inner", "sync scratch", "rename scratch", f"sync {tmp_path.name}"]


def test_a_full_disk_is_told_by_name(tmp_path: Path) -> None:
    served = Services(tmp_path)
    with failing("fsync", 1), pytest.raises(ShortageError, match="disk is full"):
        served.files.add(io.BytesIO(b"x"), filename="a", purpose="vision")
    served.close()
