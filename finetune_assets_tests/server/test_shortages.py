"""Disk, memory, descriptors or the database are lacking: what becomes of each operation is as the documents say.

`FINETUNE_ASSETS_LONG_TESTS=1` trains under every shortage at every stage instead of one of each.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import openai
import orjson
import pytest

from finetune_assets.server.backup import backup
from finetune_assets.server.database.batches import BatchRequest
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs.worker import work
from finetune_assets.server.services import Services
from finetune_assets.server.shortage import ShortageError, shortage_of, telling_of_shortages
from finetune_assets_tests.long_tests import LONG
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.conftest import training_lines, upload
from finetune_assets_tests.server.jobs.test_worker import make_job
from finetune_assets_tests.server.shortages import KINDS, ScarceServer, documented, impatient, lacking, striking
from finetune_assets_tests.server_process import KEY, make_home

__all__ = ["impatient"]
Ask = Callable[[], httpx2.Response]
STAGES = {"a step of a training": "saving", "a checkpoint": ".checkpoint-3.", "the weights of a model": ".model."}
TRAININGS = [(stage, kind) for stage in STAGES for kind in KINDS]


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScarceServer]:
    """A server of its own, which has answered once."""
    with ScarceServer(make_home(tmp_path_factory.mktemp("scarce"))) as running, running.client() as client:
        client.chat.completions.create(model="tiny-text", messages=[{"role": "user", "content": "?"}], max_tokens=1)
        yield running


@pytest.fixture(scope="module")
def http(scarce: ScarceServer) -> Iterator[httpx2.Client]:
    """A connection that is open before anything is lacking."""
    with httpx2.Client(
        base_url=scarce.base_url, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_S
    ) as client:
        yield client


def new_file(http: httpx2.Client) -> httpx2.Response:
    return http.post("/files", files={"file": ("a", os.urandom(100_000))}, data={"purpose": "vision"})


def new_part(http: httpx2.Client) -> tuple[str, Ask]:
    announced = {"bytes": 4, "filename": "x", "mime_type": "a/b", "purpose": "vision"}
    address = f"/uploads/{http.post('/uploads', json=announced).json()['id']}"
    return address, lambda: http.post(f"{address}/parts", files={"data": ("a", b"abcd")})


def completing(http: httpx2.Client) -> Ask:
    address, send = new_part(http)
    part = send().json()["id"]
    return lambda: http.post(f"{address}/complete", json={"part_ids": [part]})


def deleting(http: httpx2.Client) -> Ask:
    file = new_file(http).json()["id"]
    return lambda: http.delete(f"/files/{file}")


def creating(http: httpx2.Client) -> Ask:
    # Of nine examples: such a job fails in its validation, and none trains.
    file = http.post("/files", files={"file": ("a", training_lines(9))}, data={"purpose": "fine-tune"}).json()["id"]
    return lambda: http.post("/fine_tuning/jobs", json={"model": "tiny-text", "training_file": file})


def asking(http: httpx2.Client) -> Ask:
    asked = {"model": "tiny-text", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    return lambda: http.post("/chat/completions", json=asked)


REQUESTS: dict[str, Callable[[httpx2.Client], Ask]] = {
    "an upload": lambda http: lambda: new_file(http),
    "a part of an upload": lambda http: new_part(http)[1],
    "the completion of an upload": completing,
    "the creation of a job": creating,
    "a question to a model": asking,
    "the deletion of a file": deleting,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", REQUESTS)
def test_a_request_that_meets_a_shortage_is_answered_by_name_and_succeeds_later(
    scarce: ScarceServer, http: httpx2.Client, operation: str, kind: str
) -> None:
    ask = REQUESTS[operation](http)
    http.get("/models").raise_for_status()  # without a descriptor no connection can be made: one is open now
    with lacking(kind, scarce) as lack:
        answer = ask()
    if (said := documented()[operation, kind]) == "answered":
        assert answer.status_code == 200, answer.text
        return
    assert (said, answer.status_code) == ("503", 503), answer.text
    assert answer.headers["retry-after"] == str(lack.retry_after)
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (lack.code, "server_error")
    assert lack.words in error["message"]
    assert ask().status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_meets_a_shortage_goes_on_by_itself(scarce: ScarceServer, kind: str) -> None:
    client = scarce.client()
    body = {"model": "tiny-text", "messages": [{"role": "user", "content": "Go on"}], "max_tokens": 40}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    content = b"\n".join(orjson.dumps(line | {"custom_id": str(i)}) for i in range(40))
    file = client.files.create(file=("b", content), purpose="batch").id
    batch = client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h").id
    wait_until(lambda: n_answered(client, batch))
    with lacking(kind, scarce) as lack:
        told = f"The batch {batch} waits: {lack.words}"
        if kind != "disk":  # on which the log lies too
            wait_until(lambda: told in scarce.errors.read_text())
        assert client.batches.retrieve(batch).status in ("in_progress", "finalizing")
    wait_until(lambda: client.batches.retrieve(batch).status == "completed")
    assert documented()["a line of a batch", kind] == "waits"
    done = client.batches.retrieve(batch)
    answers = client.files.content(done.output_file_id or "").read().splitlines()
    assert sorted(int(orjson.loads(answer)["custom_id"]) for answer in answers) == list(range(40))
    assert done.error_file_id is None


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", KINDS)
def test_the_output_of_a_batch_is_made_once_there_is_what_it_needs(tmp_path: Path, kind: str) -> None:
    stores = Stores(tmp_path)
    asked = BatchRequest(
        endpoint="/v1/chat/completions", input_file_id="file-x", completion_window="24h", metadata=None,
        output_expires_in=None,
    )  # fmt: skip
    batch = stores.batches.create(asked).id
    stores.batches.started(batch, model="m", total=1)
    stores.batches.finalizing(batch)
    (tmp_path / "output.jsonl").write_bytes(b"{}\n")
    made = (batch, "completed", tmp_path / "output.jsonl", tmp_path / "none")
    with striking(kind, tmp_path) as lack, pytest.raises(ShortageError) as refused:
        stores.batches.finished(*made)
    assert refused.value.lack is lack
    assert list((tmp_path / "files" / "incoming").iterdir()) == []
    stores.batches.finished(*made)
    found = stores.batches.get(batch)
    assert found is not None and found.output_file_id is not None
    assert documented()["the output of a batch", kind] == "waits"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("stage", "kind"), TRAININGS if LONG else TRAININGS[::5])
def test_a_training_that_meets_a_shortage_goes_on_from_what_was_saved(home: Path, stage: str, kind: str) -> None:
    stores = Stores(home)
    job = make_job(stores)
    work(stores, job.id)
    with striking(kind, home, at=STAGES[stage]) as lack, pytest.raises(Exception) as met:
        work(stores, job.id)
    assert shortage_of(met.value) is lack
    assert documented()[stage, kind] == ("waits" if lack.passes else "tried again")
    stores.job_life.waits(job.id, "as the supervisor says when the process has ended")
    work(stores, job.id)
    done = stores.jobs.get(job.id)
    assert done is not None and done.status == "succeeded"
    assert [metrics["step"] for metrics in stores.events.metrics(job.id)] == list(range(1, 7))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_starts_stops_and_is_backed_up_as_far_as_it_can(tmp_path: Path, kind: str) -> None:
    home = tmp_path / "home"
    served = Services(home)
    served.start()
    file = served.files.add(io.BytesIO(b"kept"), filename="a", purpose="vision")
    if kind == "database":
        assert documented()["a backup", kind] == "made"
        with striking(kind, home):
            backup(home, tmp_path / "copy")
    else:
        with striking(kind, home), pytest.raises(ShortageError, match=KINDS[kind].words):
            backup(home, tmp_path / "copy")
        assert list(tmp_path.iterdir()) == [home]
        assert documented()["a backup", kind] == "refused"
    with striking(kind, home):
        served.stop()
    assert documented()["the end of the server", kind] == "in good order"
    with striking(kind, home), pytest.raises(ShortageError, match=KINDS[kind].words), telling_of_shortages():
        Services(home).start()
    assert documented()["the start of the server", kind] == "refused"
    again = Services(home)
    again.start()
    found = again.files.get(file.id)
    assert found is not None and again.files.verify(found).read_bytes() == b"kept"
    again.stop()


def test_a_start_on_a_full_disk_is_refused_in_one_line(home: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
    script = f"{limited}; from finetune_assets.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", "--home", str(home), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.strip().splitlines()[-1].startswith("Error: The disk is full. ")
    assert "Traceback" not in ended.stderr


def test_a_form_of_an_upload_that_finds_no_room_is_not_called_a_bad_one(scarce: ScarceServer) -> None:
    client = scarce.client()
    with lacking("disk", scarce), pytest.raises(openai.InternalServerError, match="disk is full"):
        client.files.create(file=("a", bytes(3 << 20)), purpose="vision")
    assert upload(client, training_lines(10))


def n_answered(client: openai.OpenAI, batch: str) -> int:
    counts = client.batches.retrieve(batch).request_counts
    return counts.completed if counts else 0
