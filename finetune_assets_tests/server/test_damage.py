"""Ways to damage, delete or roll back a server's database: nothing is deleted, and the message says what helps."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from finetune_assets.server.database.connection import UnwritableError
from finetune_assets.server.database.files import DamagedFileError
from finetune_assets.server.database.jobs import JobRequest
from finetune_assets.server.database.seal import LayoutError, SealBrokenError
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.salvage import salvage
from finetune_assets.server.services import Services

EARLIER = "earlier.db"


def fill(home: Path) -> None:
    """A home whose server ran twice: a file, a model and an upload under way; `earlier.db` is from between."""
    first = Services(home)
    first.write_seal()
    first.files.add(io.BytesIO(b"first"), filename="a", purpose="fine-tune")
    first.finish()
    shutil.copy(home / "server.db", home.parent / EARLIER)
    stores = Services(home)
    stores.write_seal()
    file = stores.files.add(io.BytesIO(b"second"), filename="b", purpose="fine-tune")
    train(stores, file.id)
    upload = stores.uploads.create(filename="c", purpose="vision", size=9, mime_type="", file_expires_in=None)
    stores.uploads.add_part(upload.id, io.BytesIO(b"a part"))
    stores.snapshot()
    stores.finish()


def train(stores: Stores, file_id: str) -> None:
    asked = JobRequest(
        model="m", base="m", training_file=file_id, validation_file=None, suffix=None, seed=1, hyperparameters={},
        metadata=None,
    )  # fmt: skip
    job = stores.jobs.create(asked)
    stores.job_life.validated(job.id)
    stores.job_life.started(job.id)
    stores.models.describe(job)
    for name in ("model", "checkpoint-3"):
        weights = stores.models.output(job.id) / name
        weights.mkdir()
        (weights / "adapter.safetensors").write_bytes(f"weights of {name}".encode())
    stores.job_life.checkpointed(job.id, {"step": 3}, f"{job.id}/checkpoint-3")
    stores.job_life.succeeded(job.id, path=f"{job.id}/model", results=b"results", trained_tokens=1)


def contents(home: Path) -> set[bytes]:
    """Everything that somebody stored or trained, wherever it lies now."""
    precious = [path for path in home.rglob("*") if path.is_file() and path.suffix not in (".db", ".json")]
    return {path.read_bytes() for path in precious if path.stat().st_size < 100} - {b""}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    fill(folder / "home")
    return folder


@pytest.fixture
def home(filled: Path, tmp_path: Path) -> Path:
    """A copy of the filled home, with `earlier.db` beside it."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return tmp_path / "home"


def overwrite(path: Path, place: int, data: bytes) -> None:
    with path.open("rb+") as file:
        file.seek(place)
        file.write(data)


def change(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "server.db", isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def another(home: Path) -> None:
    fill(home.parent / "another")
    shutil.copy(home.parent / "another/server.db", home / "server.db")


def write_after_the_end(home: Path) -> None:
    stores = Stores(home)
    stores.files.add(io.BytesIO(b"third"), filename="d", purpose="fine-tune")
    stores.close()


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "deleted": (lambda home: (home / "server.db").unlink(), "is missing"),
    "deleted with its seal": (lambda home: [(home / n).unlink() for n in ("server.db", "seal.json")], "is missing"),
    "emptied": (lambda home: (home / "server.db").write_bytes(b""), "was emptied"),
    "emptied with its seal": (
        lambda home: [(home / "server.db").write_bytes(b""), (home / "seal.json").unlink()], "was emptied",
    ),
    "rolled back": (lambda home: shutil.copy(home.parent / EARLIER, home / "server.db"), "older than the folders"),
    "another's": (another, "belongs to another folder"),
    "cut in half": (
        lambda home: (home / "server.db").write_bytes((home / "server.db").read_bytes()[:30_000]), "is damaged",
    ),
    "cut to a page and a half": (
        lambda home: (home / "server.db").write_bytes((home / "server.db").read_bytes()[:6000]), "is damaged",
    ),
    "without a header": (lambda home: overwrite(home / "server.db", 0, bytes(100)), "is damaged"),
    "a page of zeros": (lambda home: overwrite(home / "server.db", 8192, bytes(4096)), "is damaged"),
    "a page of noise": (lambda home: overwrite(home / "server.db", 4096, b"\xa5" * 4096), "is damaged"),
    "a text file": (lambda home: (home / "server.db").write_text("gone"), "is damaged"),
    "a folder": (lambda home: [(home / "server.db").unlink(), (home / "server.db").mkdir()], "is damaged"),
    "without rows of files": (
        lambda home: change(home, "DELETE FROM files", "DELETE FROM sqlite_sequence WHERE name = 'files'"), "older",
    ),
    "without an id": (lambda home: change(home, "DELETE FROM home"), "belongs to another folder"),
    "with two ids": (lambda home: change(home, "INSERT INTO home VALUES ('another')"), "has 2 ids"),
    "without a table": (lambda home: change(home, "DROP TABLE upload_parts"), "has no bytes in its table upload_parts"),
    "without a column": (lambda home: change(home, "ALTER TABLE jobs DROP COLUMN claim"), "no claim in its table jobs"),
    "with a view for a table": (
        lambda home: change(home, "ALTER TABLE batches RENAME TO b", "CREATE VIEW batches AS SELECT 1"), "a view",
    ),
    "with a trigger": (
        lambda home: change(home, "CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM files; END"), "a trigger t",
    ),
    "of an earlier version, as it says": (lambda home: change(home, "PRAGMA user_version = 3"), "not those of version"),
    "of no version": (lambda home: change(home, "PRAGMA user_version = -1"), "of version -1"),
    "a link that leads nowhere": (lambda home: link(home / "server.db", home.parent / "gone.db"), "is missing"),
    "a link to itself": (lambda home: link(home / "server.db", home / "server.db"), "is missing"),
    "beside a folder for its log": (lambda home: (home / "server.db-wal").mkdir(), "unable to open"),
    "with folders rolled back": (write_after_the_end, "newer than the folders"),
}  # fmt: skip


@pytest.mark.parametrize("way", REFUSED)
def test_a_database_that_is_not_that_of_its_folders_is_refused_and_nothing_changes(home: Path, way: str) -> None:
    damage, says = REFUSED[way]
    damage(home)
    before = contents(home)
    with pytest.raises(SealBrokenError, match=says) as refused:
        Services(home)
    assert contents(home) == before
    assert f"finetune-assets salvage --home {home}" in str(refused.value)
    assert "finetune-assets restore" in str(refused.value)


@pytest.mark.parametrize("way", [way for way in REFUSED if way != "a folder"])
def test_a_salvaged_folder_is_served_again_with_its_models_and_all_its_bytes(home: Path, way: str) -> None:
    REFUSED[way][0](home)
    before = contents(home)
    assert salvage(home)
    served = Services(home)
    served.sweep()
    assert before <= contents(home)
    assert len(served.models.all()) == 1
    assert (served.models.weights(served.models.all()[0]) / "adapter.safetensors").read_bytes() == b"weights of model"
    served.close()
    assert salvage(home) == []


ACCEPTED: dict[str, Callable[[Path], object]] = {
    "rows of files": lambda home: change(home, "DELETE FROM files"),
    "rows of models": lambda home: change(home, "DELETE FROM models"),
    "rows of jobs": lambda home: change(home, "DELETE FROM jobs", "DELETE FROM models"),
    "rows of uploads": lambda home: change(home, "DELETE FROM uploads"),
    "rows of parts": lambda home: change(home, "DELETE FROM upload_parts"),
    "the seal, of a database that was rolled back": lambda home: [
        (home / "seal.json").unlink(), shutil.copy(home.parent / EARLIER, home / "server.db")
    ],
    "the seal, which cannot be read": lambda home: (home / "seal.json").write_text("{"),
    "the seal, which holds words": lambda home: (home / "seal.json").write_text(
        '{"home": "x", "numbers": {"files": "3"}, "closed": true}'
    ),
    "the seal, which holds a list": lambda home: (home / "seal.json").write_text(
        '{"home": "x", "numbers": [3], "closed": true}'
    ),
}  # fmt: skip


@pytest.mark.parametrize("lost", ACCEPTED)
def test_bytes_whose_record_is_lost_are_set_aside_and_not_deleted(home: Path, lost: str) -> None:
    before = contents(home)
    ACCEPTED[lost](home)
    served = Services(home)
    served.files.remove_incoming()
    served.sweep()
    served.models.remove_leftovers()
    served.tidy()
    served.finish()
    assert before <= contents(home)


def test_bytes_that_were_deleted_and_stored_again_outlive_a_database_that_knows_only_the_first(home: Path) -> None:
    stores = Stores(home)
    first = stores.files.add(io.BytesIO(b"again"), filename="a", purpose="vision")
    stores.files.delete(first.id)
    stores.finish()
    shutil.copy(home / "server.db", home.parent / "before.db")
    stores = Stores(home)
    second = stores.files.add(io.BytesIO(b"again"), filename="a", purpose="vision")
    later = second.created_at + 10
    os.utime(home / "files" / second.content, (later, later))
    stores.finish()
    shutil.copy(home.parent / "before.db", home / "server.db")
    salvage(home)
    assert b"again" in contents(home)


def test_what_is_deleted_leaves_with_the_next_sweep_where_it_stayed(home: Path) -> None:
    stores = Stores(home)
    file = stores.files.add(io.BytesIO(b"to go"), filename="a", purpose="vision")
    kept = home / "files" / file.content
    shutil.copy2(kept, home.parent / "kept")
    stores.files.delete(file.id)
    shutil.copy2(home.parent / "kept", kept)  # as if the process had been killed before it was removed
    stores.sweep()
    assert b"to go" not in contents(home)
    stores.close()


@pytest.mark.parametrize("name", ["files", "models", "uploads", "training", "snapshots", "lost+found"])
@pytest.mark.parametrize("instead", ["a file", "a link that leads nowhere"])
def test_what_is_where_a_folder_has_to_be_is_named_and_left_alone(home: Path, name: str, instead: str) -> None:
    if (home / name).exists():
        (home / name).rename(home.parent / f"{name} elsewhere")
    if instead == "a file":
        (home / name).write_text("mine")
    else:
        (home / name).symlink_to(home.parent / "nowhere")
    for act in (Services, salvage):
        with pytest.raises(LayoutError, match=rf"home/{re.escape(name)} must be a folder"):
            act(home)
    assert instead != "a file" or (home / name).read_text() == "mine"


def test_folders_that_were_moved_to_another_disk_are_followed(home: Path) -> None:
    (home / "files").rename(home.parent / "files elsewhere")
    (home / "files").symlink_to(home.parent / "files elsewhere")
    before = contents(home.parent / "files elsewhere")
    served = Services(home)
    served.sweep()
    served.close()
    assert contents(home.parent / "files elsewhere") == before


def test_a_database_that_cannot_be_written_is_told_with_what_to_look_at(home: Path) -> None:
    (home / "server.db-shm").mkdir()
    with pytest.raises(UnwritableError, match="who may write to the folder"):
        Services(home)


def test_paths_that_a_database_makes_up_are_neither_read_nor_removed(home: Path) -> None:
    secret = home.parent / "secret"
    secret.write_bytes(b"0123456789")
    change(home, "UPDATE files SET content = '../../secret', bytes = 10", "UPDATE models SET path = '../../../secret'")
    served = Services(home)
    [file, *others] = served.files.page(purpose=None, after=None, limit=9, ascending=True).items
    with pytest.raises(DamagedFileError, match="are gone"):
        served.files.path(file)
    with pytest.raises(FileNotFoundError, match="leads out"):
        served.models.weights(served.models.all()[0])
    assert served.models.delete(served.models.all()[0].id)
    assert all(served.files.delete(each.id) for each in (file, *others))
    served.close()
    assert secret.read_bytes() == b"0123456789"


def test_a_closed_database_is_complete_without_its_log(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "server.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copied:
        assert copied.execute("SELECT count(*) FROM files").fetchone() == (3,)


def test_a_process_that_meets_no_database_makes_no_new_one(home: Path) -> None:
    (home / "server.db").unlink()
    with pytest.raises(SealBrokenError, match="is missing"):
        Stores(home)
    assert not (home / "server.db").exists()


def test_a_killed_servers_home_is_taken_up_as_it_is(tmp_path: Path) -> None:
    stores = Services(tmp_path)
    stores.write_seal()
    stores.files.add(io.BytesIO(b"x"), filename="a", purpose="fine-tune")
    stores.close()  # no seal after this, as if it had been killed
    assert not json.loads((tmp_path / "seal.json").read_text())["closed"]
    Services(tmp_path).close()
