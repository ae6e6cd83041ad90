"""How fast 10,000 fine-tuning jobs are queued, followed and told of on PostgreSQL, against SQLite.

    python benchmarks/jobs.py --jobs 10000

`queue` is the database as the server, its workers and trainers use it, with all jobs waiting. `server` is what clients
see over HTTP. `sensor` is Dagster's: its first tick learns of all jobs from the event log and reads the server's whole
list, and each later one reads the list again. In the column of PostgreSQL both Dagster and the server use it (Dagster
where `dagster-postgres` is installed, which comes with `finetune_assets[cluster]`), in the other both use SQLite.
PostgreSQL is a real one, started for this, that writes to disk before it answers. What a person or the queue waits for
must not take twice as long as with SQLite, beyond what is not noticed (10 ms).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import openai
from _databases import postgresql
from _server import Server, running_server
from sqlalchemy import create_engine, make_url, text

from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.server.database.jobs import VALIDATING, JobRequest
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.shared import Shared
from finetune_assets.task import Task

FACTOR, UNNOTICED_MS = 2.0, 10.0
LEASE = 60.0
REQUEST = JobRequest(
    model="smollm2-135m-instruct", base="smollm2-135m-instruct", training_file="file-1", validation_file=None,
    suffix="region", seed=1, hyperparameters={"n_epochs": 3}, metadata={"task": "cells"},
)  # fmt: skip
Figures = dict[str, float]
"""Milliseconds, by what was done."""


def timed(call: Callable[[], Any], times: int = 1) -> float:
    """Return the median of the milliseconds that a call takes."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    return median(taken)


def queue_figures(stores: Stores, n_jobs: int) -> Figures:
    """Fill the queue, and use it as servers, workers and trainers do."""
    found = {"queue: a new job": timed(lambda: stores.jobs.create(REQUEST), n_jobs)}
    [oldest] = stores.jobs.oldest(VALIDATING)

    def take_up() -> None:
        [job] = stores.jobs.oldest(VALIDATING)
        claim = stores.jobs.claim(job.id, VALIDATING, "worker", LEASE)
        stores.jobs.release(job.id, claim or 0)

    found["queue: a worker takes a job up"] = timed(take_up, 100)
    claim = stores.jobs.claim(oldest.id, VALIDATING, "worker", LEASE) or 0
    found["queue: a lease is renewed"] = timed(lambda: stores.jobs.renew(oldest.id, claim, LEASE), 100)
    life = stores.job_life.of(claim)
    life.validated(oldest.id)
    life.started(oldest.id)
    step = iter(range(1, 1000))

    def tell_step() -> None:
        life.stepped(oldest.id, {"step": next(step), "total_steps": 1000, "train_loss": 1.0}, {"n_epochs": 3}, None)

    found["queue: a step is recorded"] = timed(tell_step, 100)
    found["queue: what a launcher sees"] = timed(stores.jobs.waiting, 20)
    return found


def server_figures(server: Server, job_id: str) -> Figures:
    """Ask the server as clients do."""
    client = openai.OpenAI(base_url=server.base_url, api_key=server.key)
    jobs = client.fine_tuning.jobs
    jobs.retrieve(job_id)
    return {
        "server: one job": timed(lambda: jobs.retrieve(job_id), 100),
        "server: a page of 100 jobs": timed(lambda: jobs.list(limit=100), 20),
        "server: all jobs in pages": timed(lambda: list(jobs.list(limit=100)), 3),
    }


def sensor_figures(instance: dg.DagsterInstance, server: Server, job_ids: list[str]) -> Figures:
    """Let a sensor follow all jobs of a task with a region for each."""
    regions = [f"region-{number}" for number in range(len(job_ids))]
    task = Task.model_validate(
        {
            "task": "cells", "regions": regions, "source": {"kind": "elpv"}, "base_model": REQUEST.model,
            "sampling": {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2},
            "prompt": {"user": "{question} Answer Yes or No."}, "answer": {"kind": "binary"},
            "provider": server.base_url,
        }
    )  # fmt: skip
    os.environ["FINETUNE_ASSETS_API_KEY"] = server.key
    for region, job_id in zip(regions, job_ids, strict=True):
        made = dg.AssetMaterialization(asset_key(task, "finetune_job"), partition=region, metadata={"job_id": job_id})
        instance.report_runless_asset_event(made)
    sensor, cursor = job_sensor(task), None

    def tick() -> None:
        nonlocal cursor
        result: Any = sensor(dg.build_sensor_context(instance, cursor=cursor))
        cursor = result.cursor

    return {"sensor: its first tick": timed(tick), "sensor: a later tick": timed(tick, 3)}


def figures(folder: Path, n_jobs: int, shared: Shared, dagster_yaml: str) -> Figures:
    """Measure everything on one kind of database."""
    home = folder / "home"
    stores = Stores(home, shared)
    found = queue_figures(stores, n_jobs)
    job_ids = [job.id for page in _pages(stores) for job in page]
    stores.finish()
    options = () if shared.database is None else ("--database", shared.database, "--store", shared.store or "")
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text(dagster_yaml)
    with (
        running_server("--jobs", "0", *options, home=home) as server,
        dg.DagsterInstance.from_config(str(folder / "dagster")) as instance,
    ):
        return found | server_figures(server, job_ids[0]) | sensor_figures(instance, server, job_ids)


def _pages(stores: Stores) -> Iterator[list[Any]]:
    after, more = None, True
    while more:
        page = stores.jobs.page(metadata={}, after=after, limit=100)
        yield list(page.items)
        after, more = page.items[-1].id, page.has_more


@contextmanager
def databases() -> Iterator[tuple[str, str]]:
    """Start PostgreSQL; the URLs of two databases, for the server and for Dagster."""
    with postgresql() as url:
        server = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in ("jobs", "dagster"):
                connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        for_dagster = server.set(drivername="postgresql+psycopg2", database="dagster")
        yield tuple(made.render_as_string(hide_password=False) for made in (server.set(database="jobs"), for_dagster))  # pyright: ignore[reportReturnType]


def main() -> int:
    """Run what the command line asks for; exit code 1 if a figure is more than twice SQLite's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    arguments = parser.parse_args()
    os.environ.pop("FINETUNE_ASSETS_API_KEY", None)
    with tempfile.TemporaryDirectory() as name:
        ours = figures(Path(name), arguments.jobs, Shared(), "telemetry: {enabled: false}\n")
    has_both = importlib.util.find_spec("dagster_postgres") is not None
    with tempfile.TemporaryDirectory() as name, databases() as (server, for_dagster):
        storage = f"storage: {{postgres: {{postgres_url: '{for_dagster}'}}}}\n" if has_both else ""
        shared = Shared(server, f"file://{name}/store")
        theirs = figures(Path(name), arguments.jobs, shared, f"telemetry: {{enabled: false}}\n{storage}")
    print(f"{arguments.jobs:,} jobs; Dagster on {'the same' if has_both else 'SQLite'}")
    print(f"{'ms (median)':38} {'SQLite':>10} {'PostgreSQL':>10}  ratio")
    slow = []
    for what, before in ours.items():
        after = theirs[what]
        if after > max(FACTOR * before, UNNOTICED_MS):
            slow.append(what)
        print(f"{what:38} {before:10.2f} {after:10.2f}  {after / before:5.2f}{'  !' * (what in slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
