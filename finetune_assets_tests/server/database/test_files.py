"""The store's promise: a row has its bytes, whatever was cut short."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from finetune_assets.server.database.files import DamagedFileError
from finetune_assets.server.database.schema import StoredFile
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.shortage import ShortageError
from finetune_assets.server.storage import Storage
from finetune_assets_tests.server.database.conftest import Change


class Broken(io.BytesIO):
    """An upload that breaks off after its first bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("connection lost")
        return super().read(min(3, size or 3))


def test_an_upload_that_breaks_off_leaves_nothing(stores: Stores) -> None:
    with pytest.raises(OSError, match="connection lost"):
        stores.files.add(Broken(b"abcdef"), filename="a", purpose="batch")
    assert [path for path in (stores.home / "files").rglob("*") if path.is_file()] == []
    assert stores.files.page(purpose=None, after=None, limit=10, ascending=False).items == []


def test_what_a_killed_server_left_is_set_aside_and_files_are_kept(stores: Stores) -> None:
    kept = stores.files.add(io.BytesIO(b"kept"), filename="a", purpose="batch")
    folder = stores.home / "files"
    (folder / "incoming" / "file-half").write_bytes(b"half an upload")
    (folder / "file-norow").write_bytes(b"renamed, but killed before the commit")
    stores.files.remove_incoming()
    stores.files.remove_leftovers()
    assert [path.name for path in folder.rglob("*") if path.is_file()] == [kept.content]
    assert stores.files.path(kept).read_bytes() == b"kept"
    assert (stores.home / "lost+found/files/file-norow").read_bytes() == b"renamed, but killed before the commit"


def test_a_file_is_gone_when_its_time_is_over(stores: Stores) -> None:
    brief = stores.files.add(io.BytesIO(b"x"), filename="a", purpose="batch", expires_in=0)
    lasting = stores.files.add(io.BytesIO(b"y"), filename="a", purpose="batch", expires_in=3600)
    assert stores.files.get(brief.id) is None
    stores.files.remove_expired()
    assert not (stores.home / "files" / brief.content).exists()
    assert stores.files.get(lasting.id) is not None
    assert lasting.expires_at == pytest.approx(time.time() + 3600, abs=2)


def add(stores: Stores, content: bytes, expires_in: int | None = None) -> StoredFile:
    return stores.files.add(io.BytesIO(content), filename="a", purpose="user_data", expires_in=expires_in)


def bytes_on_disk(stores: Stores) -> list[bytes]:
    return [path.read_bytes() for path in (stores.home / "files").rglob("*") if path.is_file()]


def test_equal_bytes_are_stored_once_until_the_last_file_of_them_is_gone(stores: Stores) -> None:
    first, second, brief = add(stores, b"same"), add(stores, b"same"), add(stores, b"same", expires_in=0)
    assert len({first.id, second.id, brief.id}) == 3
    assert bytes_on_disk(stores) == [b"same"]
    stores.files.remove_expired()
    stores.files.delete(first.id)
    assert stores.files.path(second).read_bytes() == b"same"
    stores.files.delete(second.id)
    assert bytes_on_disk(stores) == []


def test_files_that_come_and_go_side_by_side_keep_their_bytes(stores: Stores) -> None:
    def come_and_go(number: int) -> StoredFile | None:
        file = add(stores, b"same")
        if number % 2:
            return file
        stores.files.delete(file.id)
        return None

    with ThreadPoolExecutor(8) as threads:
        kept = [file for file in threads.map(come_and_go, range(60)) if file is not None]
    assert len(kept) == 30
    assert all(stores.files.path(file).read_bytes() == b"same" for file in kept)


def test_bytes_are_placed_when_nobody_else_can_find_them_without_their_row(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stores.database.shared:
        pytest.skip("bytes in a store are removed later than any row of them could come")
    keep = Storage.keep

    def kept(storage: Storage, source: Path, name: str) -> None:
        keep(storage, source, name)
        with (
            closing(sqlite3.connect(stores.home / "server.db", timeout=0)) as sweeping,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            sweeping.execute("BEGIN IMMEDIATE")

    monkeypatch.setattr(Storage, "keep", kept)
    stores.files.remove_leftovers()
    assert stores.files.path(add(stores, b"bytes")).read_bytes() == b"bytes"


@pytest.mark.parametrize("damage", [b"", b"short", b"other"])
def test_changed_bytes_are_noticed(stores: Stores, damage: bytes) -> None:
    file = add(stores, b"bytes")
    assert stores.files.verify(file) == stores.files.path(file)
    stores.files.path(file).write_bytes(damage)
    with pytest.raises(DamagedFileError, match=file.id):
        stores.files.verify(file)


def test_a_file_of_an_earlier_version_lies_under_its_id(stores: Stores, change: Change) -> None:
    file = add(stores, b"old")
    old = stores.files.path(file).rename(stores.home / "files" / file.id)
    change("UPDATE files SET content = id")
    stores.files.remove_leftovers()
    found = stores.files.get(file.id)
    assert found is not None
    assert stores.files.verify(found) == old
    stores.files.delete(file.id)
    assert bytes_on_disk(stores) == []


@pytest.fixture
def full_disk() -> Iterator[Path]:
    """A file system of 1 MB that belongs to this test."""
    folder = Path(tempfile.mkdtemp(prefix="full-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("file systems can be mounted only by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_file_that_does_not_fit_on_the_disk_leaves_nothing(full_disk: Path) -> None:
    stores = Stores(full_disk)
    with pytest.raises(ShortageError, match="make room"):
        add(stores, b"x" * (2 << 20))
    assert bytes_on_disk(stores) == []
    small = add(stores, b"small")
    assert stores.files.path(small).read_bytes() == b"small"


def test_a_row_that_does_not_fit_on_the_disk_leaves_no_bytes(full_disk: Path) -> None:
    stores = Stores(full_disk)
    with (full_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(b"x" * 4096):
            pass
    os.truncate(full_disk / "ballast", (full_disk / "ballast").stat().st_size - 4096)
    with pytest.raises(ShortageError):
        while True:
            add(stores, b"")
    (full_disk / "ballast").unlink()
    rows = stores.files.page(purpose=None, after=None, limit=1000, ascending=False).items
    assert bytes_on_disk(stores) == ([b""] if rows else [])
