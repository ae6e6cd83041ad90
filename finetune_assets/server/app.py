"""The server as a whole: the ASGI app over a home, and the process that serves it on this machine."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import uvicorn
from fastapi import APIRouter, FastAPI, Response, Security
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer

from finetune_assets import __version__, connections
from finetune_assets.running import announced, home_id, listen
from finetune_assets.server import base_models, proofs
from finetune_assets.server.api import (
    api_page,
    batches,
    calibrations,
    chat,
    completions,
    decisions,
    error_answers,
    files,
    fine_tuning,
    graders,
    models,
    responses,
    stored_completions,
    systemone,
    uploads,
)
from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.decision_answering import DecisionMaker
from finetune_assets.server.api.gate import Gate
from finetune_assets.server.api.metrics import CONTENT_TYPE, Measured, Metrics
from finetune_assets.server.api.places import Places
from finetune_assets.server.api.wire import ErrorAnswer, WireRoute
from finetune_assets.server.database.batches import STATUSES
from finetune_assets.server.database.jobs import FINAL, OPEN, PAUSED
from finetune_assets.server.devices import PRECISION, threads_per_process, wanted_precision
from finetune_assets.server.generation.vllm import Vllm, key_from_environment
from finetune_assets.server.home import api_key, locked
from finetune_assets.server.jobs.batch_runner import BatchRunner
from finetune_assets.server.keys import Keys
from finetune_assets.server.model.remote_images import SWITCH as FETCH_SWITCH
from finetune_assets.server.services import Services
from finetune_assets.server.shared import Shared
from finetune_assets.server.shortage import telling_of_shortages

if TYPE_CHECKING:
    from finetune_assets.server.generation.handover import Handover

EngineName: TypeAlias = Literal["own", "vllm"]
DRAIN_SECONDS = 3.0
"""How long answers may take to come to their end when the server stops."""
_BREAKING_OFF_SECONDS = 2
_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request is refused."},
    "5XX": {"model": ErrorAnswer, "description": "The server cannot answer."},
}
_DESCRIPTION = "OpenAI's protocol for fine-tuning and chat, on this machine. Use it with any OpenAI client."


def make_app(
    home: Path,
    *,
    jobs: int | None = None,
    vllm_url: str | None = None,
    engine: EngineName = "own",
    shared: Shared | None = None,
) -> FastAPI:
    """Make the app that serves `home`; its queue runs while the app does. One app per home at a time (see `serve`).

    Args:
        home: folder of everything the server keeps.
        jobs: how many jobs train at once on each device; None decides by the machine, 0 leaves them to workers.
        vllm_url: where a vLLM server is that answers for the models it has.
        engine: what makes answers first: this server's own engine, or vLLM processes that it starts.
        shared: what the home has in common with others.

    Raises:
        VllmMissingError: `engine` is `vllm`, which is not installed.
    """
    services = Services(home, jobs=jobs, shared=shared, handover=_handover(home) if engine == "vllm" else None)
    metrics = Metrics()
    vllm = Vllm(vllm_url, key_from_environment()) if vllm_url else None
    answering = Completions(services, metrics, vllm)
    keys, places = Keys(home, api_key(home).value), Places()
    deciding = DecisionMaker(answering)
    runner = BatchRunner(services, answering, deciding, keys, places)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services.start()
        runner.start()
        yield
        await runner.stop()
        if vllm is not None:
            await vllm.close()
        services.stop()

    app = FastAPI(
        title="finetune_assets",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: f"{route.tags[0]}_{route.name}".lower().replace("-", "_"),
    )
    app.state.services, app.state.completions, app.state.batch_runner = services, answering, runner
    app.state.decisions = deciding
    # The gate looks at the key; this says so in the description of the API.
    bearer = [Security(HTTPBearer(auto_error=False, description="The server said at its start where its key is."))]
    for name, part in _PARTS.items():
        app.include_router(part.router, tags=[name], dependencies=bearer, responses=_REFUSALS)
    operation = APIRouter(tags=["Operation"], route_class=WireRoute)
    operation.get("/healthz")(_healthz_of(home))
    operation.get("/metrics", response_class=PlainTextResponse)(_metrics_of(metrics, services))
    # Not FastAPI's own, which makes it on the event loop: it takes a third of a second.
    operation.get("/openapi.json", include_in_schema=False)(lambda: JSONResponse(app.openapi()))
    operation.get("/docs", include_in_schema=False)(lambda: HTMLResponse(api_page.render(app.openapi())))
    app.include_router(operation)
    error_answers.install(app)
    app.add_middleware(Gate, keys=keys, places=places, usage=services.usage)
    app.add_middleware(Measured, metrics=metrics)
    return app


def serve(
    home: Path,
    host: str = "127.0.0.1",
    port: int = 8321,
    *,
    jobs: int | None = None,
    fetch_images: bool = False,
    vllm_url: str | None = None,
    engine: EngineName = "own",
    drain: float = DRAIN_SECONDS,
    shared: Shared | None = None,
) -> None:
    """Serve `home` until SIGINT or SIGTERM; port 0 takes a free one, which the start message tells.

    Raises:
        HomeInUseError: another server runs on this folder.
        DatabaseTooNewError: a later version of this package has used this folder.
        DatabaseUnreachableError, StoreUnreachableError: what the home shares with others does not answer.
        AddressInUseError: the address cannot be listened on.
        PrecisionError: `FINETUNE_ASSETS_DTYPE` names no precision.
        ShortageError: the machine lacks what a start needs.
        VllmMissingError: `engine` is `vllm`, which is not installed.
    """
    precision = wanted_precision()  # the first job or answer would be late to refuse it
    # Read when torch is first imported, here and in the workers.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_per_process(jobs)))
    # Threads that spin while they wait for one that another process has displaced bring everything to a crawl.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if fetch_images:
        os.environ[FETCH_SWITCH] = "1"
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = home.resolve()
    connections.want_descriptors()
    os.umask(0o077)  # what clients send is nobody else's on this machine
    # Where a form waits until it has come in whole: /tmp is in memory on many machines.
    tempfile.tempdir = str(home)
    with telling_of_shortages(), locked(home), listen(host, port, backlog=2048) as listener:
        app = make_app(home, jobs=jobs, vllm_url=vllm_url, engine=engine, shared=shared)
        address = listener.getsockname()[:2]
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            http=connections.protocol(),
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=math.ceil(drain) + _BREAKING_OFF_SECONDS,
        )
        with announced(home, _reached_at(*address), {"key": api_key(home).kept, PRECISION: precision}):
            print(_greeting(home, *address), flush=True)
            _Server(config, app, drain).run(sockets=[listener])
    # The interpreter's last collection would look at every object of torch and transformers, which takes seconds.
    gc.freeze()


def _handover(home: Path) -> Handover:
    from finetune_assets.server.generation.vllm_process import vllm_command

    command = vllm_command()  # before torch is imported, which takes seconds
    from finetune_assets.server.generation.handover import Handover

    return Handover(home, command)


class _Server(connections.Server):
    """Ends in good order at the first signal, and sooner at the second."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._state = app.state
        self._loop: asyncio.AbstractEventLoop | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end. Unlike uvicorn's own, it does not raise the signal again at the end, which is exit code 0."""
        del sig, frame
        if self.should_exit:
            self._state.services.supervisor.hurry()
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._state.completions.stop)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers come to their end for a moment, and end what is left: a stream with an error event."""
        self._loop = asyncio.get_running_loop()
        await self._state.batch_runner.stop()
        self._loop.call_later(self._drain, self._state.completions.stop)
        await super().shutdown(sockets)


_PARTS: dict[str, Any] = {
    "Files": files, "Uploads": uploads, "Fine-tuning": fine_tuning, "Graders": graders, "Calibration": calibrations,
    "Models": models, "Chat": chat, "Stored completions": stored_completions, "Completions": completions,
    "Decisions": decisions, "System One": systemone, "Responses": responses, "Batches": batches,
}  # fmt: skip


def _healthz_of(home: Path) -> Callable[[], Coroutine[Any, Any, dict[str, str]]]:
    known_as = home_id(home)

    async def healthz() -> dict[str, str]:  # in a thread, it would wait for one while all are busy
        """Say that the server is there, and of which folder, without saying where that is. Needs no key."""
        return {"status": "ok", "version": __version__, "home": known_as}

    return healthz


def _metrics_of(metrics: Metrics, services: Services) -> Callable[[], Response]:
    jobs, batch_rows = services.jobs, services.batches
    metrics.watch("fine_tuning_jobs", "Jobs.", lambda: {s: jobs.count(s) for s in (*OPEN, PAUSED, *FINAL)})
    if (handover := services.handover) is not None:
        told = "Requests that vLLM answered to the end, and those that our own engine went on with."
        metrics.watch("vllm_requests", told, lambda: handover.requests)
    metrics.watch("batches", "Batches.", lambda: {s: batch_rows.count(s) for s in STATUSES})

    def read_metrics() -> Response:
        """Measure the server, in Prometheus' text format. Needs no key."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return read_metrics


def _reached_at(host: str, port: int) -> str:
    """Return the address for clients on this machine of a server that may listen on all its addresses."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what it stands for here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greeting(home: Path, host: str, port: int) -> str:
    refused = {proof.name: proof.reason for proof in proofs.proofs(home) if proof.state == "refused"}
    return "\n".join(
        (
            f"Fine-tuning server: http://{host}:{port}/v1  (Ctrl-C stops it)",
            f"API key:            {api_key(home).place}",
            f"Models:             {', '.join(name for name in base_models.names(home) if name not in refused)}",
            *(f"Refused:            {name}: {reason}" for name, reason in refused.items()),
            f"More models:        name them in {home / 'models.yaml'}",
        )
    )
