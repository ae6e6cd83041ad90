"""The store's promise: a row has its bytes, whatever was cut short."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from finetune_assets.server.database.stores import Stores


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path)


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


def test_leftovers_of_a_killed_server_are_removed_and_files_are_kept(stores: Stores) -> None:
    kept = stores.files.add(io.BytesIO(b"kept"), filename="a", purpose="batch")
    folder = stores.home / "files"
    (folder / "incoming" / "file-half").write_bytes(b"half an upload")
    (folder / "file-norow").write_bytes(b"renamed, but killed before the commit")
    stores.files.remove_leftovers()
    assert [path.name for path in folder.rglob("*") if path.is_file()] == [kept.id]
    assert stores.files.path(kept.id).read_bytes() == b"kept"


def test_a_file_is_gone_when_its_time_is_over(stores: Stores) -> None:
    brief = stores.files.add(io.BytesIO(b"x"), filename="a", purpose="batch", expires_in=0)
    lasting = stores.files.add(io.BytesIO(b"x"), filename="a", purpose="batch", expires_in=3600)
    assert stores.files.get(brief.id) is None
    stores.files.remove_expired()
    assert not stores.files.path(brief.id).exists()
    assert stores.files.get(lasting.id) is not None
    assert lasting.expires_at == pytest.approx(time.time() + 3600, abs=2)
