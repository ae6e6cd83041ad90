"""The router: an ASGI app that hands each request to one of several servers, and its process.

What changes nothing, a question or a look, is kept until it is answered, and asked of another server where the first
refuses the connection, is lost, or is short of something; a client sees no more of it than the time. That ends with the
first byte of an answer, which for one that does not stream is all of it. What changes something, an upload or a new
job, is sent on as it comes, and asked elsewhere only as long as nobody has got it.

Keys, limits and errors are the servers'; the router knows none.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import anyio
import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from finetune_assets import __version__, connections
from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.running import listen
from finetune_assets.server.api.body_shape import ASKING, BodyShapeError, limits_of, openai_path, parse
from finetune_assets.server.routing.replicas import CONNECT_SECONDS, Replica, Replicas

KEPT_BYTES = 256 << 20
"""Of bodies that are kept to be asked again, together; beyond that, a question is sent on as it comes."""
BODY_SECONDS = 60.0
"""How long a client may pause while it sends a body, as at the servers."""
END_SECONDS = 45
"""How long answers under way may take when the router is ended."""
_SHORT_BODY = 16 << 10
_TUNED = "ft:"
_AWAY = (502, 503, 504)
"""Statuses of a server that cannot, where another may."""
_OF_A_CONNECTION = frozenset(
    {b"connection", b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
Headers = list[tuple[bytes, bytes]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is sent on."""

    method: str
    target: str
    """Path and query, as they came."""
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    model: str | None
    """The fine-tuned model that it is about, where that is known."""
    streams: bool
    """Whether an answer is passed on as it comes, and not once it is whole."""
    repeatable: bool

    def to(self, replica: Replica) -> httpx2.Request:
        """The request to one server, which has no headers but those that came."""
        return httpx2.Request(self.method, replica.url + self.target, headers=self.headers, content=self.body)


@dataclass(slots=True)
class Answer:
    """An answer whose first byte has come."""

    status: int
    headers: Headers
    first: bytes
    rest: AsyncIterator[bytes] | None

    async def send(self, send: Send) -> None:
        """Pass it on.

        Raises:
            httpx2.TransportError: it broke off.
        """
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.first, "more_body": self.rest is not None})
        if self.rest is not None:
            async for piece in self.rest:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})


class ClientGoneError(FinetuneAssetsError, ConnectionError):
    """A client hung up, or fell silent, before all of his request had come."""


class Router:
    """The ASGI app behind which the servers stand."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        timeout = httpx2.Timeout(None, connect=CONNECT_SECONDS)
        self._client = httpx2.AsyncClient(timeout=timeout, limits=httpx2.Limits(), trust_env=False)
        # A kept connection may be closed at the moment it is used, and nobody knows then what the server has read.
        once = httpx2.Limits(max_keepalive_connections=0)
        self._once = httpx2.AsyncClient(timeout=timeout, limits=once, trust_env=False)
        self._kept = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._once.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        pieces, kept = _pieces(receive), [b""]
        try:
            if scope["method"] not in ("GET", "HEAD") and not _asks(scope):
                await self._answer(_asked(scope, pieces), send)
            elif await self._keep(pieces, kept, limits_of(openai_path(scope["path"])).bytes):
                await self._answer_while_wanted(await _understood(scope, kept[0]), receive, send)
            else:  # the server refuses it, or has the room that is lacking here
                await self._answer(_asked(scope, _chained(kept[0], pieces)), send)
        except ClientGoneError:
            pass
        finally:
            self._kept -= sum(map(len, kept))

    async def _keep(self, pieces: AsyncIterator[bytes], kept: list[bytes], limit: int) -> bool:
        """Read a body into the one item of `kept`, and say whether that is all of it."""
        size, whole = 0, True
        async for piece in pieces:
            kept.append(piece)
            size += len(piece)
            self._kept += len(piece)
            if size > limit or self._kept > KEPT_BYTES:
                whole = False
                break
        kept[:] = [b"".join(kept)]
        return whole

    async def _answer_while_wanted(self, asked: Asked, receive: Receive, send: Send) -> None:
        """Answer, and give that up when the client hangs up."""

        async def end_with_client() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(end_with_client)
            await self._answer(asked, send)
            group.cancel_scope.cancel()

    async def _answer(self, asked: Asked, send: Send) -> None:
        refusal: Answer | None = None
        for replica in self._replicas.order(asked.model):
            with replica.counted():
                try:
                    async with self._begun(asked, replica) as answer:
                        if answer.status not in _AWAY or not asked.repeatable:
                            await _pass_on(answer, replica, send)
                            return
                        refusal = answer
                except httpx2.TransportError as error:
                    if replica.there:  # nobody is told the same by every request
                        logger.warning("%s did not answer: %s", replica.url, str(error) or type(error).__name__)
                    replica.doubt()
                    if not asked.repeatable and not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                        refusal = _refusal(502, "The server broke off. It is not known whether it did what was asked.")
                        break
        await (refusal or _refusal(503, "No server answers.")).send(send)

    @asynccontextmanager
    async def _begun(self, asked: Asked, replica: Replica) -> AsyncIterator[Answer]:
        """Ask a server, and wait for the first byte of its answer, or for all of it.

        Raises:
            httpx2.TransportError: it did not come.
        """
        client = self._client if asked.repeatable else self._once
        with replica.awaited():
            response = await client.send(asked.to(replica), stream=True)
        try:
            with replica.awaited():
                answer = await _begin(response, as_it_comes=asked.streams)
            yield answer
        finally:
            await response.aclose()


def make_app(replicas: Replicas) -> Starlette:
    """Make the app that leads to these servers."""
    router = Router(replicas)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            await group.start(replicas.watch)
            yield
            group.cancel_scope.cancel()
        await router.close()

    async def healthz(_request: Request) -> Response:
        known = replicas.all()
        there = sum(replica.there for replica in known)
        told = {"status": "ok" if there else "no server answers", "version": __version__, "servers": len(known)}
        return JSONResponse(told | {"answering": there}, 200 if there else 503)

    async def metrics(_request: Request) -> Response:
        return JSONResponse(_error("Each server has metrics of its own: ask them, not the router."), 404)

    routes = [Route("/healthz", healthz), Route("/metrics", metrics), Mount("/", router)]
    return Starlette(routes=routes, lifespan=lifespan)


def route(urls: Sequence[str], host: str = "127.0.0.1", port: int = 8321) -> None:
    """Lead to the servers at `urls` until SIGINT or SIGTERM; port 0 takes a free one, which the start message tells.

    Raises:
        ServerAddressError: one is no URL of a server, or there is none.
        AddressInUseError: the address cannot be listened on.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    connections.want_descriptors()
    server = RouterServer(Replicas(urls))
    with listen(host, port, backlog=2048) as listener:
        address = listener.getsockname()
        print(f"Router: http://{address[0]}:{address[1]}/v1 leads to {', '.join(urls)}  (Ctrl-C stops it)", flush=True)
        server.run(sockets=[listener])


class RouterServer(connections.Server):
    """The router on a socket: ends in good order at the first signal, and at once at the second."""

    def __init__(self, replicas: Replicas) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(replicas),
                log_level="warning",
                access_log=False,
                http=connections.protocol(),
                ws="none",
                server_header=False,
                date_header=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=END_SECONDS,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; uvicorn's own would raise the signal again at the end."""
        del sig, frame
        self.should_exit, self.force_exit = True, self.should_exit


async def _understood(scope: Scope, body: bytes) -> Asked:
    """Read from a body whom it is about. What it lacks, the server says."""
    if scope["method"] in ("GET", "HEAD"):
        return _asked(scope, body, repeatable=True, streams=True)
    limits = limits_of(openai_path(scope["path"]))
    try:
        said = parse(body, limits) if len(body) <= _SHORT_BODY else await asyncio.to_thread(parse, body, limits)
    except (BodyShapeError, json.JSONDecodeError):
        said = None
    said = said if isinstance(said, dict) else {}
    model = said.get("model")
    tuned = model if isinstance(model, str) and model.startswith(_TUNED) else None
    # An answer that a server was to store may be in its database, and would be there twice.
    return _asked(scope, body, model=tuned, repeatable=not said.get("store"))


def _asked(
    scope: Scope,
    body: bytes | AsyncIterator[bytes],
    *,
    model: str | None = None,
    repeatable: bool = False,
    streams: bool = False,
) -> Asked:
    target = scope["raw_path"].decode("ascii") + ("?" + scope["query_string"].decode("ascii")) * bool(
        scope["query_string"]
    )
    dropped = _OF_A_CONNECTION | {b"host"}
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    return Asked(scope["method"], target, headers, body, model, streams, repeatable)


def _asks(scope: Scope) -> bool:
    return scope["method"] == "POST" and openai_path(scope["path"]) in ASKING


async def _begin(response: httpx2.Response, *, as_it_comes: bool) -> Answer:
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_A_CONNECTION]
    rest = response.aiter_raw()
    is_stream = as_it_comes or response.headers.get("content-type", "").startswith("text/event-stream")
    if is_stream and response.status_code not in _AWAY:
        return Answer(response.status_code, headers, await anext(rest, b""), rest)
    return Answer(response.status_code, headers, b"".join([piece async for piece in rest]), None)


async def _pass_on(answer: Answer, replica: Replica, send: Send) -> None:
    try:
        await answer.send(send)
    except httpx2.TransportError as error:
        # uvicorn closes the connection of an answer without an end, which tells the client so.
        logger.warning("%s broke off an answer: %s", replica.url, str(error) or type(error).__name__)
        replica.doubt()


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), BODY_SECONDS)
        except TimeoutError:
            raise ClientGoneError from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


async def _chained(begun: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for piece in rest:
        yield piece


def _refusal(status: int, message: str) -> Answer:
    body = json.dumps(_error(message)).encode()
    headers: Iterable[tuple[bytes, bytes]] = (
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
    )
    return Answer(status, list(headers), body, None)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
