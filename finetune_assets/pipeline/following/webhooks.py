"""The receiver of webhooks: what a provider says of a job is observed, and the job looked at within seconds.

A webhook becomes an observation of `finetune_jobs` and does nothing else. The sensor of the task that follows the job
sees it at its next tick and asks the provider; so one that comes twice, or is about a job of nobody's, does no harm.
It listens on this machine alone: what the world can reach is a proxy or tunnel of yours, with TLS, that hands it on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import dagster as dg
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from finetune_assets import connections
from finetune_assets.errors import WebhookError
from finetune_assets.pipeline.shown.jobs_overview import KEY
from finetune_assets.provider.webhooks import JOB_EVENTS, MAX_AGE_S, JobEnded, Verifier
from finetune_assets.running import listen

PATH = "/webhooks"
MAX_BODY_BYTES = 64 << 10
"""A webhook about a job has some 200."""
BODY_SECONDS = 10
"""How long a body may be on its way."""
_HOST = "127.0.0.1"

_log = logging.getLogger(__name__)


class Receiver:
    """Verifies webhooks and stores those about jobs, once each."""

    def __init__(self, instance: dg.DagsterInstance, verifier: Verifier) -> None:
        self._instance = instance
        self._verifier = verifier
        self._stored: dict[str, float] = {}
        """When each delivery came, in seconds, as long as a repetition of it would be accepted."""

    async def receive(self, request: Request) -> Response:
        """Answer a webhook: 204 where it is the provider's, whatever it is about, so that it is not sent again."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
            ended = self._verifier.read(body, request.headers)
        except (TimeoutError, ClientDisconnect):
            return PlainTextResponse(f"The body did not come within {BODY_SECONDS} seconds.", 408)
        except WebhookError as error:
            _log.warning("refused: %s", error)
            return PlainTextResponse(str(error), 400)
        if ended and self._is_new(ended.delivery):
            await run_in_threadpool(self._instance.report_runless_asset_event, _observation(ended))
            # Only now: what could not be stored is sent again.
            self._stored[ended.delivery] = time.monotonic()
            _log.info("%s: %s", ended.event, ended.job_id)
        return Response(status_code=204)

    def _is_new(self, delivery: str) -> bool:
        oldest = time.monotonic() - 2 * MAX_AGE_S
        self._stored = {known: at for known, at in self._stored.items() if at > oldest}
        return delivery not in self._stored


def make_app(instance: dg.DagsterInstance, verifier: Verifier) -> Starlette:
    """Return the receiver as an application with one route, `POST /webhooks`."""
    return Starlette(routes=[Route(PATH, Receiver(instance, verifier).receive, methods=["POST"])])


def serve(home: Path, port: int) -> None:
    """Receive webhooks for the Dagster instance at `home` until SIGINT; port 0 takes a free one.

    Raises:
        ProviderError: the secret is missing, or cannot be one.
        AddressInUseError: the port is taken.
    """
    verifier = Verifier()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    _log.setLevel(logging.INFO)
    with listen(_HOST, port) as listener, dg.DagsterInstance.from_config(str(home)) as instance:
        print(_greeting(listener.getsockname()[1]), flush=True)
        config = uvicorn.Config(
            make_app(instance, verifier),
            log_level="warning",
            access_log=False,
            server_header=False,
            http=connections.protocol(),
        )
        connections.Server(config).run(sockets=[listener])


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"A webhook has at most {MAX_BODY_BYTES:,} bytes.")
    return bytes(body)


def _observation(ended: JobEnded) -> dg.AssetObservation:
    outcome = ended.event.rpartition(".")[2]
    words = f"A webhook says that job {ended.job_id} ended: {outcome}"
    return dg.AssetObservation(KEY, words, metadata={"job_id": ended.job_id, "event": ended.event})


def _greeting(port: int) -> str:
    return "\n".join(
        (
            f"Webhooks:   http://{_HOST}:{port}{PATH}  (Ctrl-C stops it)",
            "Reached by: a proxy or tunnel of yours; its https address is what the provider is told",
            f"Events:     {', '.join(JOB_EVENTS)}",
        )
    )
