"""What is paid for is done once, over lines that fail and from processes that meet."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from finetune_assets.provider import once as once_module
from finetune_assets.provider.client import connect
from finetune_assets.provider.files import upload_once
from finetune_assets.provider.fine_tuning import JobRequest, submit_once
from finetune_assets.provider.once import ATTEMPTS, once
from finetune_assets.task import Method
from finetune_assets_tests.faulty_line import FAULTS, faulty_line
from finetune_assets_tests.machines import at_once
from finetune_assets_tests.postgres_server import new_schema
from finetune_assets_tests.scripted_provider import ScriptedProvider
from finetune_assets_tests.server.conftest import let_go
from finetune_assets_tests.server_process import ServerProcess

SUBMIT = """
import sys
from finetune_assets.provider.client import connect
from finetune_assets.provider.files import upload_once
from finetune_assets.provider.fine_tuning import JobRequest, submit_once
from finetune_assets.task import Method
from pathlib import Path
client = connect(sys.argv[1])
file = upload_once(client, Path(sys.argv[2]))
print(submit_once(client, JobRequest("tiny-text", file, None, Method(n_epochs=1))).job.id)
"""


SUBMIT_TO_ONE_WHO_FORGETS = """
import sys
from finetune_assets.provider.client import connect
from finetune_assets.provider.files import UploadedFile
from finetune_assets.provider.fine_tuning import JobRequest, submit_once
from finetune_assets.task import Method
client = connect(sys.argv[1])
request = JobRequest("base", UploadedFile("file-1", "0" * 64, 1, True), None, Method(n_epochs=1))
print("ready", flush=True)
sys.stdin.readline()
print(submit_once(client, request).job.id)
"""


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    pauses: list[float] = []
    monkeypatch.setattr(once_module.time, "sleep", pauses.append)
    return pauses


def training_file(folder: Path, name: str) -> Path:
    path = folder / "train.jsonl"
    chats = [
        [{"role": "user", "content": f"{name} {number}?"}, {"role": "assistant", "content": "Yes"}]
        for number in range(12)
    ]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return path


def certain() -> None:
    """Nobody else does the same."""


def failing(status: int, retry_after: str | None = None) -> openai.APIStatusError:
    headers = {"retry-after": retry_after} if retry_after else {}
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", "http://there"))
    return openai.APIStatusError("no", response=response, body=None)


def test_what_is_there_is_not_made_again() -> None:
    assert once(lambda: "there", lambda: pytest.fail("made again"), certain) == ("there", True)


def test_after_an_error_it_is_looked_for_before_it_is_asked_for_again(no_waiting: list[float]) -> None:
    made: list[str] = []

    def create() -> str:
        made.append("job")
        raise failing(500)

    assert once(lambda: made[0] if made else None, create, certain) == ("job", False)
    assert len(made) == len(no_waiting) == 1


def test_a_refusal_is_final(no_waiting: list[float]) -> None:
    def create() -> str:
        raise failing(400)

    with pytest.raises(openai.APIStatusError):
        once(lambda: None, create, certain)
    assert not no_waiting


def test_the_provider_says_how_long_to_wait_else_each_pause_is_longer(no_waiting: list[float]) -> None:
    errors = iter([failing(429, "7"), failing(429, "9999"), failing(503), *(failing(500) for _ in range(ATTEMPTS))])

    def create() -> str:
        raise next(errors)

    with pytest.raises(openai.APIStatusError):
        once(lambda: None, create, certain)
    assert no_waiting == [7, 120, 4, 8, 8, 8, 8]


@pytest.mark.xdist_group("training")
def test_a_line_that_fails_in_every_way_leaves_one_file_and_one_job_of_each(
    server: ServerProcess, client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    made: dict[str, str] = {}
    with faulty_line(server.base_url, silence_s=0.1) as line:
        hasty = connect(line.base_url)
        for number in range(8):
            file = upload_once(hasty, training_file(tmp_path, f"faulty {number}"))
            made[submit_once(hasty, JobRequest("tiny-text", file, None, Method(n_epochs=1))).job.id] = file.id
    let_go(client, *made)
    jobs = [job.id for job in client.fine_tuning.jobs.list(limit=100) if job.training_file in made.values()]
    names = [file.filename for file in client.files.list() if file.id in made.values()]
    assert sorted(jobs) == sorted(made) and len(made) == 8
    assert [file.filename for file in client.files.list() if file.filename in names] == names
    assert sum(line.met[fault] for fault in FAULTS) > 5


@pytest.mark.xdist_group("training")
def test_processes_that_ask_at_the_same_time_make_one_file_and_one_job(
    server: ServerProcess, client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    path = training_file(tmp_path, "at the same time")
    command = [sys.executable, "-c", SUBMIT, server.base_url, str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(3)]
    found = {process.communicate()[0].strip() for process in running}
    assert len(found) == 1 and all(process.returncode == 0 for process in running)
    [job_id] = found
    job = client.fine_tuning.jobs.retrieve(job_id)
    let_go(client, job_id)
    assert [other.id for other in client.fine_tuning.jobs.list() if other.training_file == job.training_file] == [
        job_id
    ]


def test_machines_that_share_a_database_make_one_job_at_a_provider_that_would_make_two(
    provider: ScriptedProvider, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = provider.create

    def slowly(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        time.sleep(0.5)
        return create(body)

    monkeypatch.setattr(provider, "create", slowly)
    provider.contents["file-1"] = b"{}"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", new_schema(postgres))
    folders = [tmp_path / "one", tmp_path / "other"]
    assert at_once(SUBMIT_TO_ONE_WHO_FORGETS, [provider.base_url], folders) == [("ftjob-0", 0)] * 2
    assert list(provider.jobs) == ["ftjob-0"] and provider.asked["create"] == 1
    assert not any((folder / "var").exists() for folder in folders)
