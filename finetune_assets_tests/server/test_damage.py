"""Ways to damage, delete or roll back a server's database: nothing is deleted, and the message says what helps."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from finetune_assets.server.database.jobs import JobRequest
from finetune_assets.server.database.seal import SealBrokenError
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


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fill(tmp_path / "home")
    return tmp_path / "home"


def overwrite(path: Path, place: int, data: bytes) -> None:
    with path.open("rb+") as file:
        file.seek(place)
        file.write(data)


def change(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "server.db", isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


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
    "without an id": (lambda home: change(home, "DROP TABLE home"), "belongs to another folder"),
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
