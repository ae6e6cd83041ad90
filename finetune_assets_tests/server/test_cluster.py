"""Several servers and workers over one database and one store: as one server, whoever is killed or stands still.

They run with `FINETUNE_ASSETS_LONG_TESTS=1`; `CLUSTER_KILLS=60` makes as many kills. What they rely on has tests of its
own, in `database/`: claims, fencing and stores.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import orjson
import psutil
import pytest
from openai.types.fine_tuning import FineTuningJob
from sqlalchemy import text

from finetune_assets.server.database.stores import Stores
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.cluster import Cluster, cluster
from finetune_assets_tests.server.conftest import training_lines, upload, wait

KILLS = int(os.environ.get("CLUSTER_KILLS", "12"))
pytestmark = long
STARTED = "Fine-tuning job started"


@pytest.fixture
def shared(tmp_path: Path, postgres: str) -> Iterator[Cluster]:
    with cluster(tmp_path, postgres, lease_seconds=8.0) as made:
        yield made


def train(client: openai.OpenAI, file: str | None = None, **changes: Any) -> FineTuningJob:
    """A job of 36 steps with a checkpoint at every third; all such jobs make the same model."""
    asked: dict[str, Any] = {
        "model": "tiny-text",
        "training_file": file or upload(client, training_lines(12)),
        "hyperparameters": {"n_epochs": 12, "batch_size": 4, "learning_rate_multiplier": 5},
        "seed": 7,
    }
    return client.fine_tuning.jobs.create(**asked | changes)


def steps(stores: Stores, job_id: str) -> list[tuple[int, float]]:
    return [(told["step"], told["train_loss"]) for told in stores.events.metrics(job_id)]


def told(stores: Stores, job_id: str) -> list[str]:
    return [event.message for event in stores.events.page(job_id, after=None, limit=1000).items][::-1]


def weights(stores: Stores, name: str) -> bytes:
    model = stores.models.get(name)
    assert model is not None
    return (stores.models.weights(model) / "adapter_model.safetensors").read_bytes()


@pytest.mark.timeout(4 * PATIENCE_S)
def test_what_one_server_is_asked_a_worker_makes_and_another_server_answers(shared: Cluster) -> None:
    one, other, worker = shared.server("one"), shared.server("other"), shared.worker("worker")
    asked, answering = one.client(), other.client()
    content = training_lines(12)
    file = upload(asked, content)
    assert answering.files.content(file).read() == content
    job = wait(answering, train(asked, file, hyperparameters={"n_epochs": 2, "batch_size": 4}).id)
    assert (job.status, job.error) == ("succeeded", None)
    model = job.fine_tuned_model or ""
    assert job.result_files and len(asked.files.content(job.result_files[0]).read().splitlines()) == 7
    assert worker.stop() == 0
    messages: Any = [{"role": "user", "content": "Is 3 fine?"}]
    answers = {
        client.chat.completions.create(model=model, messages=messages, max_tokens=3, temperature=0)
        .choices[0]
        .message.content
        for client in (asked, answering)
    }
    assert len(answers) == 1
    body = {"model": model, "messages": messages, "max_tokens": 2}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    batch = asked.batches.create(
        input_file_id=asked.files.create(file=("b.jsonl", orjson.dumps(line)), purpose="batch").id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    wait_until(lambda: answering.batches.retrieve(batch.id).status == "completed")
    output = answering.batches.retrieve(batch.id).output_file_id
    assert output and answering.files.content(output).read().count(b'"custom_id":"a"') == 1
    assert answering.models.delete(model).deleted
    with pytest.raises(openai.NotFoundError):
        asked.chat.completions.create(model=model, messages=messages)


@pytest.mark.timeout(6 * PATIENCE_S)
def test_a_worker_that_stood_still_past_its_lease_changes_nothing_when_it_goes_on(shared: Cluster) -> None:
    client, stores = shared.server("one").client(), shared.stores()
    first = shared.worker("first")
    job = train(client, hyperparameters={"n_epochs": 40, "batch_size": 4, "learning_rate_multiplier": 5})
    wait_until(lambda: len(steps(stores, job.id)) > 4, lambda: told(stores, job.id))
    stopped = first.send(signal.SIGSTOP)
    shared.worker("second")
    done = wait(client, job.id)
    assert (done.status, done.error) == ("succeeded", None)
    assert any("was not heard of any more" in message for message in told(stores, job.id))
    before = told(stores, job.id), weights(stores, done.fine_tuned_model or "")
    for process in stopped:
        process.send_signal(signal.SIGCONT)
    # The process that worked on the job ends; what it was forked from stays.
    wait_until(lambda: len(first.all()) < len(stopped), lambda: [process.cmdline() for process in first.all()])
    assert (told(stores, job.id), weights(stores, done.fine_tuned_model or "")) == before
    undisturbed = wait(client, train(client, hyperparameters={"n_epochs": 40, "batch_size": 4,
                                                               "learning_rate_multiplier": 5}).id)  # fmt: skip
    assert steps(stores, undisturbed.id) == steps(stores, job.id)
    assert weights(stores, undisturbed.fine_tuned_model or "") == before[1]


@pytest.mark.timeout(10 * PATIENCE_S)
def test_nine_jobs_of_two_servers_are_made_once_each_by_four_workers_the_oldest_first(shared: Cluster) -> None:
    clients, stores = [shared.server(name).client() for name in ("one", "other")], shared.stores()
    asked = [train(clients[region % 2], metadata={"region": str(region)}).id for region in range(9)]
    for job_id in asked:
        stores.job_life.validated(job_id)
    began = time.monotonic()
    for number in range(int(os.environ.get("CLUSTER_WORKERS", "4"))):
        shared.worker(f"worker-{number}")
    done = [wait(clients[1], job_id) for job_id in asked]
    print(f"9 jobs in {time.monotonic() - began:.0f} s")
    assert [(job.status, job.error) for job in done] == [("succeeded", None)] * 9
    events = [
        (event.number, job_id)
        for job_id in asked
        for event in stores.events.page(job_id, after=None, limit=1000).items
        if event.message == STARTED
    ]
    order = [asked.index(job_id) for _, job_id in sorted(events)]
    assert sorted(order) == list(range(9)), "each was begun once"
    # At most as many older ones as there are other workers may be on their way to their first event.
    assert all(older <= place + 3 for place, older in enumerate(order)), order
    assert len({weights(stores, job.fine_tuned_model or "") for job in done}) == 1
    assert [job.id for job in clients[0].fine_tuning.jobs.list(limit=20)] == asked[::-1]


@pytest.mark.timeout(6 * PATIENCE_S)
def test_a_worker_for_each_job_is_started_by_a_command_ends_with_it_and_is_replaced_when_lost(
    shared: Cluster, tmp_path: Path
) -> None:
    client, stores = shared.server("one").client(), shared.stores()
    pids = tmp_path / "pids"
    pids.mkdir()
    shared.home("all")  # every worker's home names the models
    homes = f"mkdir -p {tmp_path}/{{name}} && cp {tmp_path}/all/models.yaml {tmp_path}/{{name}}/"
    ours = f"{sys.executable} -m finetune_assets.cli"
    worker = f"{ours} worker --job {{job}} --home {tmp_path}/{{name}} --jobs 1 > {tmp_path}/{{name}}/log 2>&1"
    command = [*ours.split(), "launch", "sh", "-c", f"{homes}; {worker} & echo $! > {pids}/{{name}}"]
    with subprocess.Popen(command) as launcher:
        file = upload(client, training_lines(12))
        asked = [train(client, file).id for _ in range(3)]
        wait_until(lambda: len(steps(stores, asked[0])) > 4, lambda: told(stores, asked[0]))
        lost = psutil.Process(int((pids / asked[0]).read_text()))
        for process in (*lost.children(recursive=True), lost):
            process.kill()
        done = [wait(client, job_id) for job_id in asked]
        assert [(job.status, job.error) for job in done] == [("succeeded", None)] * 3
        wait_until(lambda: not any(runs(int(pid.read_text())) for pid in pids.iterdir()))
        assert {pid.name for pid in pids.iterdir()} > set(asked), "the lost one was replaced, by another name"
        assert len({weights(stores, job.fine_tuned_model or "") for job in done}) == 1
        launcher.terminate()
        assert launcher.wait() == 0


@pytest.mark.timeout(6 * PATIENCE_S + 120 * KILLS)
def test_kills_of_workers_servers_and_connections_lose_nothing_and_change_no_model(shared: Cluster) -> None:
    dice, stores = random.Random(KILLS), shared.stores()
    servers = {name: shared.server(name) for name in ("one", "other")}
    workers = {name: shared.worker(name) for name in ("first", "second")}
    keeping = servers["other"].client().with_options(max_retries=5)
    file = upload(keeping, training_lines(12))
    asked = [train(keeping, file).id for _ in range(2)]
    states = saved(stores, asked)
    for kill in range(KILLS):
        # A job that is ended ten times without having saved anything is given up, as it should be.
        wait_until(lambda before=states: all(saved(stores, [job]) != {job: before.get(job)} for job in asked))
        states = saved(stores, asked)
        time.sleep(dice.uniform(0, 2))
        match ("worker", "trainer", "connections", "server")[kill % 4]:
            case "worker":
                name = dice.choice(sorted(workers))
                workers[name].kill()
                workers[name] = shared.worker(name)
            case "trainer":
                for worker in workers.values():
                    for process in worker.all()[1:]:
                        with suppress(ProcessLookupError):
                            os.kill(process.pid, signal.SIGKILL)
            case "connections":
                kill_connections(stores)
            case _:
                servers["one"].kill()
                servers["one"] = shared.server("one")
        if all(
            keeping.with_options(max_retries=5).fine_tuning.jobs.retrieve(job).status == "succeeded" for job in asked
        ):
            asked.append(train(servers["one"].client().with_options(max_retries=5), file).id)
    client = servers["one"].client().with_options(max_retries=5)
    done = [wait(client, job_id) for job_id in asked]
    assert [(job.status, job.error) for job in done] == [("succeeded", None)] * len(done)
    undisturbed = wait(client, train(client, file).id)
    assert told(stores, undisturbed.id).count(STARTED) == 1
    for job in done:
        assert told(stores, job.id).count("The job has successfully completed") == 1
        assert steps(stores, job.id) == steps(stores, undisturbed.id)
        assert weights(stores, job.fine_tuned_model or "") == weights(stores, undisturbed.fine_tuned_model or "")


@pytest.mark.timeout(6 * PATIENCE_S)
def test_a_store_that_often_fails_costs_time_and_nothing_else(shared: Cluster) -> None:
    client, stores = shared.server("one").client().with_options(max_retries=5), shared.stores()
    shared.worker("first")
    file = upload(client, training_lines(12))
    shared.failing.on = True
    jobs = [train(client, file) for _ in range(2)]
    done = [wait(client, job.id) for job in jobs]
    shared.failing.on = False
    assert shared.failing.failed > 20
    undisturbed = wait(client, train(client, file).id)
    for job in (*done, undisturbed):
        assert (job.status, job.error) == ("succeeded", None)
        assert weights(stores, job.fine_tuned_model or "") == weights(stores, done[0].fine_tuned_model or "")
        [checkpoint, *_] = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert weights(stores, checkpoint.fine_tuned_model_checkpoint)


def saved(stores: Stores, asked: list[str]) -> dict[str, str | None]:
    """From which state the training of each job would go on; one that has ended has always another."""
    jobs = [stores.jobs.get(job_id) for job_id in asked]
    return {job.id: str(time.monotonic()) if job.status == "succeeded" else job.state for job in jobs if job}


def runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def kill_connections(stores: Stores) -> None:
    """End every connection to the database but this one."""
    with stores.database.reading() as session:
        session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
