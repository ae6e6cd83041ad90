"""A whole cluster on this machine, and the demo on it: `make cluster`.

PostgreSQL, an object store that speaks S3 (moto's), two nodes of Ray, two fine-tuning servers behind a router, and a
worker for each job, as a job of Ray. On them `finetune-assets demo` runs with `deploy/dagster.yaml`: its runs are jobs
of Ray too, and nothing but logs lies in a folder. The variables of `settings` are all that tells it from the demo on a
laptop.

    python -m deploy.cluster [what `finetune-assets demo` takes, such as --task labels or --region mono]
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from finetune_assets.running import free_port
from finetune_assets_tests.postgres_server import running_postgres

FOLDER = Path("var/cluster").absolute()
BUCKET = "finetune"
DATABASES = ("dagster", "feedback", "server")
NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
"""What each node of Ray says that it has: a run and a worker take one CPU each."""
OURS = (sys.executable, "-m", "finetune_assets.cli")
START_SECONDS = 300
STOP_SECONDS = 30


def main() -> int:
    """Start everything, run the demo, and end everything; the demo's exit code."""
    parser = argparse.ArgumentParser(
        description="A whole cluster on this machine, and `finetune-assets demo` on it, with the options that it takes."
    )
    _, asked = parser.parse_known_args()
    began = time.monotonic()
    with cluster() as environment:
        print(f"The cluster stands after {time.monotonic() - began:.0f} s; logs are in {FOLDER}.", flush=True)
        code = subprocess.run([*OURS, "demo", *asked], env=environment, check=False).returncode
    print(f"The demo on PostgreSQL, S3 and Ray took {time.monotonic() - began:.0f} s.")
    return code


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Everything that a demo needs, for the duration; yields the environment in which it finds it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "dagster").mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("dagster.yaml"), FOLDER / "dagster" / "dagster.yaml")
    with ExitStack() as ending:
        ports = _ports("s3", "ray", "agent", "router", "a", "b")
        databases = ending.enter_context(_databases())
        environment = dict(os.environ) | settings(databases, ports)
        _start(ending, "s3", [str(_beside("moto_server")), "-H", "127.0.0.1", "-p", str(ports["s3"])], environment)
        _await(f"http://127.0.0.1:{ports['s3']}/moto-api/")
        httpx2.put(f"http://127.0.0.1:{ports['s3']}/{BUCKET}").raise_for_status()
        ending.enter_context(_ray(ports["ray"], ports["agent"], environment))
        servers = [f"http://127.0.0.1:{ports[name]}" for name in ("a", "b")]
        for name in ("a", "b"):
            serve = ["serve", "--home", str(FOLDER / name), "--port", str(ports[name]), "--jobs", "0"]
            _start(ending, name, [*OURS, *serve], environment)
        _start(ending, "router", [*OURS, "route", *servers, "--port", str(ports["router"])], environment)
        _start(ending, "launcher", [*OURS, "launch", *_ray_job(environment)], environment)
        for server in servers:
            _await(f"{server}/healthz")
        _await(f"http://127.0.0.1:{ports['router']}/healthz")
        yield environment


def settings(databases: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables by which every part finds the others: those of `deploy/environment`."""
    return {
        "FINETUNE_ASSETS_DATA": f"s3://{BUCKET}/outputs",
        "FINETUNE_ASSETS_FEEDBACK_DB": databases["feedback"],
        "FINETUNE_ASSETS_DATABASE": databases["server"],
        "FINETUNE_ASSETS_STORE": f"s3://{BUCKET}/server",
        "FINETUNE_ASSETS_BASE_URL": f"http://127.0.0.1:{ports['router']}/v1",
        "FINETUNE_ASSETS_API_KEY": f"sk-{secrets.token_hex(16)}",
        "DAGSTER_HOME": str(FOLDER / "dagster"),
        "DAGSTER_PG_URL": databases["dagster"].replace("postgresql+psycopg:", "postgresql+psycopg2:"),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{ports['ray']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PATH": f"{_beside('')}{os.pathsep}{os.environ['PATH']}",
    }


def _ray_job(environment: Mapping[str, str]) -> list[str]:
    """Return the command that hands a worker of one job to Ray."""
    submit = ["job", "submit", "--no-wait", "--submission-id", "{name}", "--entrypoint-num-cpus", "1"]
    work = ["worker", "--job", "{job}", "--home", str(FOLDER / "workers" / "{name}"), "--jobs", "1"]
    return [str(_beside("ray")), *submit, "--address", environment["RAY_API_SERVER_ADDRESS"], "--", *OURS, *work]


@contextmanager
def _databases() -> Iterator[dict[str, str]]:
    """A PostgreSQL server with a database for each part; their URLs by name."""
    from sqlalchemy import create_engine, make_url, text

    with running_postgres("max_connections=300") as url:
        server = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in DATABASES:
                connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        yield {name: server.set(database=name).render_as_string(hide_password=False) for name in DATABASES}


@contextmanager
def _ray(port: int, agent: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Two nodes of Ray, whose dashboard listens on a port.

    On one machine the second node's agent needs a port of its own.
    """
    # The nodes are started as they find the environment here, and jobs find it as the nodes do.
    os.environ.update(environment)
    # Only `make cluster` installs Ray: a development environment has none to look types up in.
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]
    from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]

    board = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    nodes = Cluster(initialize_head=True, head_node_args=NODE | board)
    try:
        nodes.add_node(**NODE, dashboard_agent_listen_port=agent)
        _await(f"http://127.0.0.1:{port}/api/version")
        yield
        _stop(JobSubmissionClient(f"http://127.0.0.1:{port}"))
    finally:
        nodes.shutdown()


def _start(ending: ExitStack, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end() -> None:
        process.terminate()
        process.wait()

    ending.callback(end)


def _stop(ray: Any) -> None:
    """End all jobs in good order."""
    for job in ray.list_jobs():
        if not job.status.is_terminal():
            ray.stop_job(job.submission_id)
    until = time.monotonic() + STOP_SECONDS
    while not all(job.status.is_terminal() for job in ray.list_jobs()) and time.monotonic() < until:
        time.sleep(0.3)


def _await(url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx2.get(url, timeout=5).raise_for_status()
            return
        except httpx2.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)


def _ports(*names: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = free_port(max(found.values(), default=8349) + 1)
    return found


def _beside(name: str) -> Path:
    return Path(sys.executable).parent / name


if __name__ == "__main__":
    sys.exit(main())
