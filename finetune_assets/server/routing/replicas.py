"""The servers that a router leads to: who is there, and in which order they are asked.

For a model they are ranked by rendezvous hashing (Thaler and Ravishankar, 1998): each has a weight for it, a hash of
both names. So all routers rank alike without a word between them, and a server that goes moves no models but its own.
The first of the ranking that has room is asked, room being so many times the mean load (Mirrokni, Thorup and
Zadimoghaddam, 2018): a model that is asked now and then is in the memory of one server, and one that is asked often in
that of as many as it takes.

A URL stands for every address that its host's name has, as the name of a headless Service of Kubernetes has those of
all pods.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
import anyio.abc
import httpx2

from finetune_assets.errors import FinetuneAssetsError

LOAD_FACTOR = 1.5
"""How many times the mean of requests under way a server may have before a model's next server is asked."""
LOOK_SECONDS = 1.0
"""How often each server is looked at, and each name looked up."""
SILENCE_SECONDS = 30.0
"""After which a server that accepts no connection and refuses none, or does not answer, is lost."""
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
"""How long one look at a server may take."""

logger = logging.getLogger(__name__)


class ServerAddressError(FinetuneAssetsError, ValueError):
    """What a router is to lead to is no address of a server."""


@dataclass(eq=False)
class Replica:
    """One server."""

    url: str
    """Without a path."""
    there: bool = False
    """Whether it answered when it was last looked at or asked."""
    n_open: int = 0
    """Requests under way, until the last byte of the answer."""
    heard: float = field(default_factory=time.monotonic)
    """When it last said that it is well."""
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: set[anyio.CancelScope] = field(default_factory=set)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request."""
        self.n_open += 1
        try:
            yield
        finally:
            self.n_open -= 1

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Wait for a first byte, no longer than the server is there.

        Raises:
            httpx2.ReadTimeout: it was lost meanwhile.
        """
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            raise httpx2.ReadTimeout(f"nothing was heard of {self.url} for {SILENCE_SECONDS:.0f} s")

    def doubt(self) -> None:
        """Ask others first, until it is looked at, which happens now."""
        self.there = False
        self._doubted.set()

    async def watch(self, client: httpx2.AsyncClient) -> None:
        """Look at it again and again."""
        while True:
            await self.look(client)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._doubted.wait(), LOOK_SECONDS)
            self._doubted.clear()

    async def look(self, client: httpx2.AsyncClient) -> None:
        """See whether it answers.

        What it is answering is left to its own connection, which also a server that ends in good order keeps; where
        nothing comes from the whole machine any more, it is given up.
        """
        was_there = self.there
        try:
            self.there = (await client.get(f"{self.url}/healthz")).status_code == 200
            self.heard = time.monotonic()
        except httpx2.TimeoutException:
            if time.monotonic() - self.heard > SILENCE_SECONDS:
                self.there = False
                for scope in self._waiting:
                    scope.cancel()
        except httpx2.HTTPError:
            self.there = False
        if was_there != self.there:
            logger.warning("%s %s", self.url, "answers" if self.there else "does not answer")


class Replicas:
    """The servers at these URLs. Used by one event loop, while it is `watched`.

    Raises:
        ServerAddressError: one is no URL of a server, or there is none.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._known: dict[str, dict[str, Replica]] = {_checked(url): {} for url in urls}
        if not self._known:
            raise ServerAddressError("name the servers to lead to, such as http://server:8321")

    def all(self) -> list[Replica]:
        """Return all that have an address now."""
        return list({url: replica for known in self._known.values() for url, replica in known.items()}.values())

    def order(self, model: str | None) -> list[Replica]:
        """Return whom to ask first, and whom then; None is what any can answer. Those that seem away come last."""
        replicas = self.all()
        there = [replica for replica in replicas if replica.there]
        if model is None:
            there.sort(key=lambda replica: replica.n_open)
        else:
            room = math.ceil(LOAD_FACTOR * (sum(one.n_open for one in there) + 1) / max(1, len(there)))
            there.sort(key=lambda replica: (replica.n_open >= room, -_weight(replica.url, model)))
        return there + [replica for replica in replicas if not replica.there]

    async def watch(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Keep looking, at names and at servers; started once each has been looked at."""
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        async with httpx2.AsyncClient(timeout=timeout, trust_env=False) as client, asyncio.TaskGroup() as group:
            watched: dict[Replica, asyncio.Task[None]] = {}
            await self._look_up()
            await asyncio.gather(*(replica.look(client) for replica in self.all()))
            task_status.started()
            while True:
                here = set(self.all())
                for replica in here - watched.keys():
                    watched[replica] = group.create_task(replica.watch(client))
                for replica in watched.keys() - here:
                    watched.pop(replica).cancel()
                await asyncio.sleep(LOOK_SECONDS)
                await self._look_up()

    async def _look_up(self) -> None:
        """Learn which addresses the names have now; where nobody says, they have those that they had."""
        for url, known in self._known.items():
            with suppress(OSError):
                found = await _addresses(url)
                self._known[url] = {address: known.get(address) or Replica(address) for address in found}


def _checked(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"none://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/", "/v1", "/v1/"):
        raise ServerAddressError(f"a server is named by a URL such as http://server:8321, not by {url!r}")
    return f"{parts.scheme}://{parts.netloc}"


async def _addresses(url: str) -> list[str]:
    """Return a URL for each address of the host; an https one as it is, as certificates are of names."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return [url]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    # Of one family: a machine that has addresses of both is still one.
    hosts = sorted({str(entry[4][0]) for entry in found if entry[0] == found[0][0]})
    return [f"http://{f'[{host}]' if ':' in host else host}:{parts.port or 80}" for host in hosts]


def _weight(url: str, model: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{url} {model}".encode()).digest()[:8])
