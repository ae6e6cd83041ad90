"""`worker`, `launch`, `route`, and what servers and workers on several machines have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from finetune_assets.server.shared import Shared

Database = Annotated[
    str | None,
    typer.Option(
        envvar="FINETUNE_ASSETS_DATABASE",
        help="Keep state in PostgreSQL (postgresql+psycopg://user@host/name), for any number of servers and workers.",
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        envvar="FINETUNE_ASSETS_STORE",
        help="Keep files, models and training states in an object store (s3://bucket/prefix, or another of fsspec's).",
    ),
]


def shared(database: str | None, store: str | None) -> Shared:
    """Put together what is shared; how long a lease is comes from the environment."""
    from dataclasses import replace

    from finetune_assets.server.shared import Shared

    return replace(Shared.from_environment(), database=database or None, store=store or None)


def worker(
    database: Database = None,
    store: Store = None,
    home: Annotated[
        Path, typer.Option(help="A folder of the worker's own: models.yaml, logs and what it works on.")
    ] = Path("var/worker"),
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="How many jobs train at once on each device. By default 1 on a GPU, 2 on a CPU."),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Work on this job alone (its id), and end with it.")] = None,
) -> None:
    """Take jobs of servers that share a database and a store, and train them, until SIGTERM or Ctrl-C.

    Every worker has a folder of its own. One that is not heard of for FINETUNE_ASSETS_LEASE_SECONDS (60) loses its job
    to another, which goes on from the state that was saved last.
    """
    from finetune_assets.server.jobs import pulling

    pulling.pull(home, shared(database, store), jobs, job)


def launch(
    command: Annotated[
        list[str],
        typer.Argument(help="What starts a worker: {job} stands for the job's id, {name} for a name of each worker."),
    ],
    database: Database = None,
) -> None:
    """Run a command for each job that waits, such as one that hands a worker to Ray, Slurm or Kubernetes.

    The worker is `finetune-assets worker --job {job}`, wherever it runs. A job whose worker is lost gets another.
    """
    from finetune_assets.server.jobs import launching

    launching.launch(shared(database, None), command)


def route(
    servers: Annotated[
        list[str],
        typer.Argument(help="Servers to lead to, such as http://server:8321; a name stands for all its addresses."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8321,
) -> None:
    """Lead to several servers that share a database and a store, by one address.

    A fine-tuned model is asked of one server, and of more where it is asked often. A question whose server dies before
    the first byte of the answer goes to another. A server that is ended gets no more, and answers what it has.
    """
    from finetune_assets.server.routing import router

    router.route(servers, host, port)
