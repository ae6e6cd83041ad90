"""Workers as jobs of Ray, one for each fine-tuning job and with its id: nodes are killed, and nothing is lost.

They run with `FINETUNE_ASSETS_LONG_TESTS=1` where Ray is installed (`finetune_assets[cluster]`); `RAY_KILLS=12` makes
as many kills.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.running import free_port
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.cluster import Cluster, cluster
from finetune_assets_tests.server.conftest import training_lines, upload, wait
from finetune_assets_tests.server.test_cluster import STARTED, steps, told, train, weights

pytest.importorskip("ray")
pytestmark = long
KILLS = int(os.environ.get("RAY_KILLS", "4"))
IMPATIENT = """
from finetune_assets.cli import main
from finetune_assets.server.jobs import launching
launching.PATIENCE_SECONDS = 20.0
main()
"""
"""A launcher that soon believes that a worker, which Ray had accepted, was lost with its node."""
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def shared(tmp_path: Path, postgres: str) -> Iterator[Cluster]:
    with cluster(tmp_path, postgres, lease_seconds=8.0) as made:
        yield made


@contextmanager
def ray() -> Iterator[tuple[Any, str]]:
    """Nodes of Ray, of which the first has the dashboard and works on nothing; and the address of that."""
    from ray.cluster_utils import Cluster as Nodes  # pyright: ignore[reportMissingImports]

    port = free_port(8265)
    board = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    nodes = Nodes(initialize_head=True, head_node_args=NODE | board | {"num_cpus": 0})
    try:
        yield nodes, f"http://127.0.0.1:{port}"
    finally:
        nodes.shutdown()


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End it whatever happens: to leave its block would wait for it."""
    try:
        yield
    finally:
        process.terminate()


def add_node(nodes: Any) -> Any:
    return nodes.add_node(**NODE, dashboard_agent_listen_port=free_port(random.randrange(20_000, 30_000)))


@pytest.mark.timeout(4 * PATIENCE_S + 300 * KILLS)
def test_killed_nodes_lose_no_job_and_change_no_model(shared: Cluster, tmp_path: Path) -> None:
    client, stores, dice = shared.server("one").client(), shared.stores(), random.Random(5)
    home = shared.home("all")
    script = tmp_path / "work.sh"
    script.write_text(
        f"mkdir -p {tmp_path}/$2 && cp {home}/models.yaml {tmp_path}/$2/\n"
        f"exec {sys.executable} -m finetune_assets.cli worker --job $1 --home {tmp_path}/$2 --jobs 1\n"
    )
    with ray() as (nodes, address):
        working = [add_node(nodes), add_node(nodes)]
        submit = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--no-wait", "--address", address]
        command = [*submit, "--submission-id", "{name}", "--entrypoint-num-cpus", "1", "--", "sh", str(script)]
        ours = [sys.executable, "-c", IMPATIENT, "launch", *command, "{job}", "{name}"]
        with subprocess.Popen(ours) as launcher, ending(launcher):
            file = upload(client, training_lines(15))
            asked: list[str] = []

            def all_steps() -> int:
                """Of all jobs, of which two are always under way."""
                going = [job for job in asked if client.fine_tuning.jobs.retrieve(job).finished_at is None]
                for _ in range(2 - len(going)):
                    asked.append(train(client, file, hyperparameters={"n_epochs": 50, "batch_size": 4}).id)
                return sum(len(steps(stores, job)) for job in asked)

            for _ in range(KILLS):
                before = all_steps()
                wait_until(lambda n=before: all_steps() > n)
                time.sleep(dice.uniform(0, 3))
                nodes.remove_node(working.pop(dice.randrange(2)), allow_graceful=False)
                working.append(add_node(nodes))
            done = [wait(client, job) for job in asked]
        names = {job.submission_id for job in _jobs(address)}
    assert [(job.status, job.error) for job in done] == [("succeeded", None)] * len(done)
    assert set(asked) <= names, "the submission id is the job's"
    assert len(names) > len(asked), "who was lost was replaced"
    for job in done:
        assert told(stores, job.id).count("The job has successfully completed") == 1
        assert told(stores, job.id).count(STARTED) >= 1
        assert steps(stores, job.id) == steps(stores, done[0].id)
        assert weights(stores, job.fine_tuned_model or "") == weights(stores, done[0].fine_tuned_model or "")


def _jobs(address: str) -> list[Any]:
    from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]

    return JobSubmissionClient(address).list_jobs()
