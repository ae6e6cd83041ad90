"""A provider that is broken or hostile: what it sends is whole, of limited size, its own, and does not hold our key."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import psutil
import pytest

from finetune_assets.errors import ProviderError
from finetune_assets.provider.client import asynchronous, connect, explained

KEY = "sk-ours-and-nobody-elses"


class Hostile(BaseHTTPRequestHandler):
    """Answers as `say` has it, and notes who came."""

    protocol_version = "HTTP/1.1"
    pauses = False
    """Whether the body is sent again and again, with pauses, until nobody listens."""

    def do_GET(self) -> None:
        self.server.came.append(self.path)  # type: ignore[attr-defined]
        status, headers, body = self.server.say()  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in ({"content-type": "application/json", "content-length": len(body)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        while self.pauses:
            time.sleep(0.05)
            try:
                self.wfile.write(body)
            except OSError:
                return

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002


class Server(ThreadingHTTPServer):
    """On a free port; `say` makes the answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hostile)
        self.came: list[str] = []
        self.say: Any = lambda: (200, {}, b"{}")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("FINETUNE_ASSETS_API_KEY", raising=False)
    monkeypatch.setattr("finetune_assets.provider.client.RETRIES", 0)
    with Server() as server:
        yield server
        server.shutdown()


def ask_in_parallel(client: openai.OpenAI) -> None:
    async def ask() -> None:
        async with asynchronous(client) as line:
            await line.models.list()

    asyncio.run(ask())


WAYS = {"one by one": lambda client: client.models.list(), "in parallel": ask_in_parallel}


@pytest.mark.parametrize("way", WAYS)
def test_a_small_answer_that_unpacks_to_gigabytes_is_not_unpacked(hostile: Server, way: str) -> None:
    bomb = gzip.compress(gzip.compress(bytes(200 << 20)))
    outer = gzip.decompress(bomb)  # 200 KB for 200 MB
    hostile.say = lambda: (200, {"content-encoding": "gzip"}, outer)
    before = psutil.Process().memory_info().rss
    client = connect(hostile.url)
    with pytest.raises(ProviderError, match="longer than 64 MB"), explained(client):
        WAYS[way](client)
    assert psutil.Process().memory_info().rss - before < 300 << 20


@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_to_another_origin_is_told_and_not_followed(hostile: Server, way: str) -> None:
    with Server() as other:
        hostile.say = lambda: (307, {"location": f"{other.url}/models"}, b"{}")
        client = connect(hostile.url)
        with (
            pytest.raises(ProviderError, match=rf"sends us to http://127\.0\.0\.1:{other.server_port}"),
            explained(client),
        ):
            WAYS[way](client)
        assert other.came == []
        other.shutdown()


def test_a_redirect_within_the_provider_is_followed(hostile: Server) -> None:
    answers = iter([(307, {"location": "/v1/elsewhere"}, b"{}"), (200, {}, b'{"object": "list", "data": []}')])
    hostile.say = lambda: next(answers)
    assert connect(hostile.url).models.list().data == []
    assert hostile.came == ["/v1/models", "/v1/elsewhere"]


def test_a_word_in_place_of_a_key_is_no_secret(hostile: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    hostile.say = lambda: (200, {}, b'{"id": "none", "object": "model", "created": 1, "owned_by": "us"}')
    assert connect(hostile.url).models.retrieve("m").id == "none"


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_key_that_the_provider_repeats_is_not_in_the_message(hostile: Server, status: int, kind: str) -> None:
    body = f'{{"error": {{"message": "the key {KEY} is bad"}}}}'.encode()
    hostile.say = lambda: (status, {"content-type": kind}, body)
    client = connect(hostile.url)
    with pytest.raises(ProviderError) as caught, explained(client):
        client.models.list()
    chain: BaseException | None = caught.value
    while chain is not None:
        assert KEY not in f"{chain} {chain!r} {vars(chain)}"
        chain = chain.__cause__


def test_a_key_that_the_provider_spells_with_escapes_is_not_in_the_message(hostile: Server) -> None:
    spelt = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    hostile.say = lambda: (400, {}, f'{{"error": {{"message": "the key {spelt} is bad"}}}}'.encode())
    client = connect(hostile.url)
    with pytest.raises(ProviderError, match=r"the key \[the API key\] is bad"), explained(client):
        client.models.list()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("body", "told"),
    [(b"[" * 5_000_000, "nested deeper"), (b"[" + b"[]," * 5_000_000 + b"0]", "more than 4,000,000 values")],
    ids=["depth", "many values"],
)
def test_an_answer_that_takes_gigabytes_to_read_is_not_read(hostile: Server, way: str, body: bytes, told: str) -> None:
    hostile.say = lambda: (200, {}, body)
    before = psutil.Process().memory_info().rss
    client = connect(hostile.url)
    with pytest.raises(ProviderError, match=told), explained(client):
        WAYS[way](client)
    assert psutil.Process().memory_info().rss - before < 300 << 20


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_of_a_byte_now_and_then_is_given_up(
    hostile: Server, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_assets.provider.incoming.BODY_SECONDS", 0.3)
    hostile.say = lambda: (200, {"content-length": 10_000}, b" ")
    monkeypatch.setattr(Hostile, "pauses", True)
    client = connect(hostile.url)
    with pytest.raises(ProviderError, match="did not come whole within 0.3 seconds"), explained(client):
        WAYS[way](client)


def test_an_answer_in_a_packing_that_nobody_asked_for_is_refused(hostile: Server) -> None:
    hostile.say = lambda: (200, {"content-encoding": "br, zstd"}, b"x")
    client = connect(hostile.url)
    with pytest.raises(ProviderError, match="packed as 'br, zstd'"), explained(client):
        client.models.list()
