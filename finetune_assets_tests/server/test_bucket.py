"""Bytes in an object store: whole or not there, for every home that shares it, however badly it answers."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_assets.server.bucket import MANIFEST, Bucket, StoreRefusedError, StoreUnreachableError
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.removal import Removal
from finetune_assets.server.services import Services
from finetune_assets.server.shared import NothingSharedError, Shared
from finetune_assets_tests.object_store import Failing, object_store


@pytest.fixture(scope="module")
def failing() -> list[Failing]:
    return []


@pytest.fixture(scope="module")
def s3(failing: list[Failing]) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, object_store(patch, failing) as url:
        yield url


@pytest.fixture
def url(s3: str, tmp_path: Path) -> str:
    return f"{s3}/{tmp_path.name}"


def bucket(url: str, home: Path) -> Bucket:
    home.mkdir(exist_ok=True)
    return Bucket(url, home, Removal(home))


def folder_of(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def test_a_folder_is_there_for_other_homes_once_it_is_published(url: str, tmp_path: Path) -> None:
    here, there = bucket(url, tmp_path / "a"), bucket(url, tmp_path / "b")
    made = folder_of(tmp_path / "a/models/job/model", weights=b"w" * 1000, config=b"{}")
    name = here.publish(made, "models/job/1/model")
    assert {path.name: path.read_bytes() for path in there.fetch(name).iterdir()} == {
        "weights": b"w" * 1000, "config": b"{}"
    }  # fmt: skip
    here.remove(name)
    with pytest.raises(FileNotFoundError):
        bucket(url, tmp_path / "c").fetch(name)


def test_a_folder_whose_last_file_did_not_come_is_nowhere(url: str, tmp_path: Path) -> None:
    here = bucket(url, tmp_path / "a")
    here.publish(folder_of(tmp_path / "x", weights=b"w", config=b"{}"), "models/job/1/model")
    here._files.rm_file(f"{here._root}/models/job/1/model/{MANIFEST}")
    with pytest.raises(FileNotFoundError):
        here.fetch("models/job/1/model")


def test_bytes_that_were_changed_in_the_store_are_not_taken(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_assets.server.bucket._PAUSES", (0.01,))
    here = bucket(url, tmp_path / "a")
    here.publish(folder_of(tmp_path / "x", weights=b"w"), "models/job/1/model")
    here._files.pipe_file(f"{here._root}/models/job/1/model/weights", b"other")
    with pytest.raises(StoreUnreachableError, match="has not come in as it was kept"):
        here.fetch("models/job/1/model")
    assert not list((tmp_path / "a/cache").rglob("weights"))


def test_a_store_of_another_database_is_refused(url: str, tmp_path: Path) -> None:
    bucket(url, tmp_path / "a").belong_to("one")
    bucket(url, tmp_path / "b").belong_to("one")
    with pytest.raises(StoreRefusedError, match=r"another database \(one, not two\)"):
        bucket(url, tmp_path / "c").belong_to("two")


@pytest.mark.parametrize(
    ("address", "told"), [("/a/folder", "must be a URL"), ("nosuch://x/y", "nosuch"), ("s3://no-such-bucket/x", "used")]
)
def test_a_store_that_cannot_be_used_is_refused_by_name(s3: str, tmp_path: Path, address: str, told: str) -> None:
    assert s3
    with pytest.raises(StoreRefusedError, match=told):
        Stores(tmp_path, Shared(store=address))


def test_a_database_is_shared_only_with_a_store(tmp_path: Path) -> None:
    with pytest.raises(NothingSharedError, match="--store"):
        Services(tmp_path, shared=Shared("postgresql://nobody@/nothing"))


def test_nothing_is_lost_or_half_there_in_a_store_that_often_fails(
    url: str, tmp_path: Path, failing: list[Failing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_assets.server.bucket._PAUSES", (0.01,) * 7)
    stores = Stores(tmp_path / "a", Shared(store=url))
    failing[0].on = True
    kept: dict[str, bytes] = {}
    for number in range(12):
        content = hashlib.sha256(bytes([number])).digest() * 100
        kept[stores.files.add(io.BytesIO(content), filename="f", purpose="vision").id] = content
    upload = stores.uploads.create(filename="u", purpose="vision", size=4, mime_type="", file_expires_in=None)
    parts = [stores.uploads.add_part(upload.id, io.BytesIO(half)) for half in (b"ab", b"cd")]
    _, file = stores.uploads.complete(upload.id, [part.id for part in parts], None)
    kept[file.id] = b"abcd"
    gone = stores.files.add(io.BytesIO(b"gone"), filename="g", purpose="vision")
    assert stores.files.delete(gone.id)
    made = folder_of(tmp_path / "a/models/job/model", weights=b"w" * 70_000)
    name = stores.storage.publish(made, "models/job/1/model")
    other = bucket(url, tmp_path / "b")
    assert (other.fetch(name) / "weights").read_bytes() == b"w" * 70_000
    failing[0].on = False
    assert failing[0].failed > 10
    for file_id, content in kept.items():
        row = stores.files.get(file_id)
        assert row is not None
        assert other.fetch(f"files/{row.content}").read_bytes() == content
    assert len(other.names("files")) == len(kept)
    stores.close()
