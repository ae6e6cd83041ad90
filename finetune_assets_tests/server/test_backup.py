"""Backups: of one moment though clients write, whole or refused, and the same folder elsewhere."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from finetune_assets.server.backup import BackupError, backup, restore
from finetune_assets.server.database.schema import StoredFile
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.removal import nothing_removed
from finetune_assets.server.services import Services
from finetune_assets_tests.server.test_damage import contents, fill

WRITERS = 16


def listed(stores: Stores) -> list[StoredFile]:
    return stores.files.page(purpose=None, after=None, limit=10_000, ascending=True).items


def test_every_id_of_a_backup_made_while_clients_write_has_its_bytes(tmp_path: Path) -> None:
    """Sixteen clients add files and delete some; the name of each file is its content."""
    served = Services(tmp_path / "home")
    served.write_seal()
    enough, begun = threading.Event(), threading.Barrier(WRITERS + 1)

    def write(writer: int) -> None:
        begun.wait()
        for number in range(10_000):
            content = f"{writer}-{number % 50}"
            file = served.files.add(io.BytesIO(content.encode()), filename=content, purpose="fine-tune")
            if number % 3:
                served.files.delete(file.id)
            if enough.is_set():
                return

    with ThreadPoolExecutor(WRITERS) as pool:
        writing = [pool.submit(write, writer) for writer in range(WRITERS)]
        begun.wait()
        for number in range(3):
            backup(tmp_path / "home", tmp_path / f"backup-{number}")
        enough.set()
        for done in writing:
            done.result()
    served.finish()
    for number in range(3):
        restore(tmp_path / f"backup-{number}", tmp_path / f"elsewhere-{number}")
        restored = Services(tmp_path / f"elsewhere-{number}")
        restored.sweep()
        for file in listed(restored):
            assert restored.files.verify(file).read_bytes() == file.filename.encode()
        restored.close()


def test_a_restored_folder_holds_files_models_and_parts(tmp_path: Path) -> None:
    fill(tmp_path / "home")
    backup(tmp_path / "home", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "elsewhere")
    assert contents(tmp_path / "elsewhere") == contents(tmp_path / "home")
    assert (tmp_path / "elsewhere").stat().st_mode & 0o077 == 0
    restored = Services(tmp_path / "elsewhere")
    restored.sweep()
    assert len(restored.models.all()) == 1
    assert not (tmp_path / "elsewhere/lost+found").exists()
    restored.close()


def test_what_is_deleted_during_a_backup_leaves_the_disk_after_it(tmp_path: Path) -> None:
    served = Services(tmp_path)
    file = served.files.add(io.BytesIO(b"x"), filename="a", purpose="fine-tune")
    with nothing_removed(tmp_path):
        served.files.delete(file.id)
        assert (tmp_path / "files" / file.content).exists()
    assert served.removal.postponed
    served.sweep()
    assert not (tmp_path / "files" / file.content).exists()
    served.close()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda made: (made / "backup.json").unlink(), "no complete backup"),
        (lambda made: next((made / "files").iterdir()).write_bytes(b"changed"), "not the file that was copied"),
        (lambda made: next((made / "files").iterdir()).unlink(), "not the file that was copied"),
        (lambda made: (made / "backup.json").write_text('{"sha256": {"../x": "0"}}'), "leads out of"),
    ],
)
def test_a_backup_that_is_not_whole_is_refused(tmp_path: Path, harm: object, says: str) -> None:
    fill(tmp_path / "home")
    backup(tmp_path / "home", tmp_path / "backup")
    assert callable(harm)
    harm(tmp_path / "backup")
    with pytest.raises(BackupError, match=says):
        restore(tmp_path / "backup", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    fill(tmp_path / "home")
    backup(tmp_path / "home", tmp_path / "backup")
    with pytest.raises(BackupError, match="not empty"):
        backup(tmp_path / "home", tmp_path / "backup")
    with pytest.raises(BackupError, match="not empty"):
        restore(tmp_path / "backup", tmp_path / "home")
    with pytest.raises(BackupError, match=r"no server\.db"):
        backup(tmp_path / "nothing", tmp_path / "other")


def test_a_file_whose_bytes_are_gone_stops_a_backup_by_name(tmp_path: Path) -> None:
    served = Services(tmp_path / "home")
    file = served.files.add(io.BytesIO(b"x"), filename="a", purpose="fine-tune")
    served.files.path(file).unlink()
    with pytest.raises(BackupError, match=file.id):
        backup(tmp_path / "home", tmp_path / "backup")
    served.close()
