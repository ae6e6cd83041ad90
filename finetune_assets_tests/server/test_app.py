"""The server as a process: how it starts, stops, dies and comes back."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import psutil
import pytest

from finetune_assets.errors import AddressInUseError, PrecisionError
from finetune_assets.server.app import serve
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.devices import PRECISION
from finetune_assets.server.home import HomeInUseError
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.conftest import training_lines, upload, wait
from finetune_assets_tests.server_process import ServerProcess

EPOCHS, EXAMPLES = 12, 12


def start_training(server: ServerProcess, *, epochs: int = EPOCHS, examples: int = EXAMPLES) -> str:
    """The id of a job whose training takes some seconds."""
    client = server.client()
    return client.fine_tuning.jobs.create(
        model="tiny-text",
        training_file=upload(client, training_lines(examples)),
        hyperparameters={"n_epochs": epochs, "batch_size": 1},
    ).id


def wait_for_first_step(server: ServerProcess, job_id: str) -> None:
    client = server.client()
    wait_until(lambda: any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job_id)))


def messages(home: Path, job_id: str) -> list[str]:
    """What the database of a server that is not running tells of a job."""
    return [event.message for event in Stores(home).events.page(job_id, after=None, limit=1000).items]


def test_the_start_message_says_where_to_find_everything(home: Path) -> None:
    with ServerProcess(home, key=None) as server:
        assert server.base_url in server.greeting
        assert str(home / "api_key") in server.greeting
        assert "tiny-text" in server.greeting
        assert server.key not in server.greeting
        assert stat.S_IMODE((home / "api_key").stat().st_mode) == 0o600
        assert server.client().models.list().data
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=PATIENCE_S) == 0
        assert server.errors.read_text() == ""


def test_a_precision_that_is_none_is_refused_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRECISION, "half")
    with pytest.raises(PrecisionError, match="FINETUNE_ASSETS_DTYPE is 'half'"):
        serve(home)


def test_a_second_server_on_the_same_folder_is_refused(server: ServerProcess) -> None:
    with pytest.raises(HomeInUseError, match=rf"a server \(process {server.process.pid}\) already runs on"):
        serve(server.home)


def test_a_port_that_is_taken_is_named(server: ServerProcess, tmp_path: Path) -> None:
    port = int(server.base_url.split(":")[2].removesuffix("/v1"))
    with pytest.raises(AddressInUseError, match=f"cannot listen on 127.0.0.1:{port} .* --port"):
        serve(tmp_path, port=port)


def test_a_killed_server_comes_back_with_its_files_and_trains_again(home: Path) -> None:
    with ServerProcess(home) as server:
        file = upload(server.client(), training_lines(), "kept.jsonl")
        job_id = start_training(server)
        wait_for_first_step(server, job_id)
        orphans = server.workers()
        assert orphans
        server.kill()
    assert psutil.wait_procs(orphans, timeout=PATIENCE_S)[1] == []
    (home / "files" / "incoming" / "file-half").write_bytes(b"an upload cut short")
    with ServerProcess(home) as server:
        client = server.client()
        assert client.files.content(file).read() == training_lines()
        assert list((home / "files" / "incoming").iterdir()) == []
        job = wait(client, job_id)
        assert job.status == "succeeded"
        told = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=1000)]
        assert any("back in the queue and training goes on" in message for message in told)
        # Steps after the last saved state are told twice, but each counts once.
        assert len([message for message in told if message.startswith("Step ")]) >= EPOCHS * EXAMPLES
        assert len(client.files.content(job.result_files[0]).text.splitlines()) == 1 + EPOCHS * EXAMPLES


def test_a_stopped_server_takes_its_worker_along_and_keeps_the_job(home: Path) -> None:
    with ServerProcess(home) as server:
        # So many that no machine is through before the server has stopped.
        job_id = start_training(server, epochs=50, examples=200)
        wait(server.client(), job_id, "running")
        processes = server.workers()
        server.stop()
    assert psutil.wait_procs(processes, timeout=0)[1] == []
    job = Stores(home).jobs.get(job_id)
    assert job is not None
    assert (job.status, job.interruptions) == ("queued", 0)
    assert "The server was stopped; the job is back in the queue" in messages(home, job_id)[0]
