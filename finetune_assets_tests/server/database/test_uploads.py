"""Uploads on disk: a file is there in whole or not at all, and nothing else stays."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from finetune_assets.server.database.schema import Upload
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.database.uploads import UploadStateError
from finetune_assets_tests.server.database.conftest import Change


@pytest.fixture
def upload(stores: Stores) -> Upload:
    """An upload of six bytes."""
    return stores.uploads.create(filename="a", purpose="vision", size=6, mime_type="text/plain", file_expires_in=None)


def add(stores: Stores, upload: Upload, content: bytes) -> str:
    return stores.uploads.add_part(upload.id, io.BytesIO(content)).id


def parts_on_disk(stores: Stores) -> list[str]:
    return [path.name for path in (stores.home / "uploads").rglob("*") if path.is_file()]


def test_a_completed_upload_is_a_file_and_its_parts_are_gone(stores: Stores, upload: Upload) -> None:
    parts = [add(stores, upload, content) for content in (b"123", b"", b"456")]
    completed, file = stores.uploads.complete(upload.id, parts, md5=None)
    assert (completed.status, completed.file_id) == ("completed", file.id)
    assert stores.files.verify(file).read_bytes() == b"123456"
    assert list((stores.home / "uploads").iterdir()) == []


def test_parts_may_come_side_by_side(stores: Stores, upload: Upload) -> None:
    with ThreadPoolExecutor(6) as threads:
        parts = list(threads.map(lambda digit: add(stores, upload, digit), [b"1", b"2", b"3", b"4", b"5", b"6"]))
    _, file = stores.uploads.complete(upload.id, parts, md5=None)
    assert stores.files.path(file).read_bytes() == b"123456"


def test_an_upload_expires_with_its_parts(stores: Stores, upload: Upload, change: Change) -> None:
    part = add(stores, upload, b"123456")
    change("UPDATE uploads SET expires_at = expires_at - 3600")
    with pytest.raises(UploadStateError, match="is expired, not pending"):
        stores.uploads.complete(upload.id, [part], md5=None)
    stores.tidy()
    assert parts_on_disk(stores) == []
    found = stores.uploads.get(upload.id)
    assert found is not None
    assert found.status == "expired"


def test_an_upload_that_ends_while_a_part_comes_in_keeps_nothing_of_it(stores: Stores, upload: Upload) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if not self.tell():
                stores.uploads.cancel(upload.id)
            return super().read(size)

    with pytest.raises(UploadStateError, match="is cancelled"):
        stores.uploads.add_part(upload.id, Slow(b"123"))
    assert parts_on_disk(stores) == []


def test_what_a_killed_server_left_is_set_aside_and_parts_are_kept(stores: Stores, upload: Upload) -> None:
    part = add(stores, upload, b"123")
    over = stores.uploads.create(filename="b", purpose="vision", size=1, mime_type="", file_expires_in=None)
    stores.uploads.cancel(over.id)
    for folder in (upload.id, over.id, "upload_unknown"):
        (stores.home / "uploads" / folder).mkdir(exist_ok=True)
        (stores.home / "uploads" / folder / "part_half").write_bytes(b"cut short")
    stores.uploads.remove_leftovers()
    assert parts_on_disk(stores) == [part]
    assert [path.name for path in (stores.home / "uploads").iterdir()] == [upload.id]
    lost = {path.parent.name for path in (stores.home / "lost+found/uploads").glob("*/*")}
    assert lost == {upload.id, "upload_unknown"}
