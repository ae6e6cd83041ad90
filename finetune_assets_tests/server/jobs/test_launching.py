"""A launcher starts one worker for each job that waits, and another for one that has come back.

That real workers take the jobs, and end with them, is in `test_cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_assets.server.database.jobs import VALIDATING
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs import launching
from finetune_assets.server.jobs.launching import LaunchCommandError, Launcher, launch
from finetune_assets.server.shared import NothingSharedError, Shared
from finetune_assets_tests.server.database.test_job_life import make_job


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(tmp_path / "home")
    yield opened
    opened.close()


def written(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_each_job_gets_one_worker_once_it_has_waited_for_two_looks(stores: Stores, tmp_path: Path) -> None:
    told = tmp_path / "told"
    launcher = Launcher(stores.jobs, ["sh", "-c", f"echo {{job}} as {{name}} >> {told}"])
    jobs = [make_job(stores).id for _ in range(2)]
    launcher.look()
    assert written(told) == []
    for _ in range(3):
        launcher.look()
    assert written(told) == [f"{job} as {job}" for job in jobs]


def test_a_job_that_is_worked_on_gets_none_and_one_that_comes_back_another(stores: Stores, tmp_path: Path) -> None:
    told = tmp_path / "told"
    launcher = Launcher(stores.jobs, ["sh", "-c", f"echo {{name}} {{job}} >> {told}"])
    job = make_job(stores).id
    claim = stores.jobs.claim(job, VALIDATING, "a worker", 1000.0)
    assert claim == 1
    launcher.look()
    launcher.look()
    assert written(told) == []
    stores.jobs.release(job, claim)
    launcher.look()
    launcher.look()
    assert written(told) == [f"{job}-1 {job}"]


def test_a_job_whose_worker_never_comes_gets_another_after_a_while(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, now = tmp_path / "told", 1000.0
    monkeypatch.setattr(launching.time, "monotonic", lambda: now)
    launcher = Launcher(stores.jobs, ["sh", "-c", f"echo {{name}} >> {told} # {{job}}"])
    job = make_job(stores).id
    handed_over = []
    for minute in range(60):
        now = 1000.0 + 60 * minute
        launcher.look()
        handed_over += [minute] * (len(written(told)) - len(handed_over))
    assert handed_over == [1, 11, 31], "a scheduler without room is not flooded"
    assert written(told) == [job, f"{job}-0b", f"{job}-0c"]


def test_a_command_that_fails_is_run_again_later(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = tmp_path / "told"
    launcher = Launcher(stores.jobs, ["sh", "-c", f"echo {{job}} >> {told}; exit 3"])
    job = make_job(stores).id
    for _ in range(3):
        launcher.look()
    assert written(told) == [job] and f"No worker was started for {job}" in caplog.text
    monkeypatch.setattr(launching, "RETRY_SECONDS", 0.0)
    launcher._started.clear()
    launcher.look()
    launcher.look()
    assert written(told) == [job] * 3
    absent = Launcher(stores.jobs, ["no-such-program", "{job}"])
    absent.look()
    absent.look()
    assert "no-such-program" in caplog.text


def test_a_command_without_a_job_and_a_server_s_own_database_are_refused(stores: Stores) -> None:
    with pytest.raises(LaunchCommandError, match=r"must name the job by \{job\}"):
        Launcher(stores.jobs, ["ray", "job", "submit", "{name}"])
    with pytest.raises(NothingSharedError, match="FINETUNE_ASSETS_DATABASE"):
        launch(Shared(), ["echo", "{job}"])
