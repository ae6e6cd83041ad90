"""The router over HTTP: what dies before the first byte is answered elsewhere, and nothing is done twice.

The servers behind it end when a test says. Real ones are killed in `test_cluster`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from finetune_assets.server.routing import replicas as replicas_module
from finetune_assets.server.routing import router as router_module
from finetune_assets_tests.patience import wait_until
from finetune_assets_tests.server.routing.scripted_server import ScriptedServer, routed, scripted_servers

MODEL = "ft:tiny:org:region:1"
CHAT = "/v1/chat/completions"


class Routed:
    """Two servers and the router before them."""

    def __init__(self, servers: list[ScriptedServer], url: str) -> None:
        self.servers = servers
        self.client = httpx2.Client(base_url=url, timeout=60)

    def ask(self, model: str = MODEL, path: str = CHAT, **more: Any) -> httpx2.Response:
        return self.client.post(
            path, json={"messages": [{"role": "user", "content": "Is it?"}], "model": model, **more}
        )

    def favourite(self, model: str = MODEL) -> tuple[ScriptedServer, ScriptedServer]:
        """Who is asked for a model, and the other one."""
        name = self.ask(model).json()["server"]
        one, other = sorted(self.servers, key=lambda server: server.name != name)
        one.asked.clear()
        return one, other


@pytest.fixture
def two() -> Iterator[Routed]:
    with scripted_servers("one", "two") as servers, routed(*(server.url for server in servers)) as url:
        made = Routed(servers, url)
        with made.client:
            yield made


def test_a_model_is_asked_of_one_server_and_many_models_of_both(two: Routed) -> None:
    assert len({two.ask().json()["server"] for _ in range(10)}) == 1
    asked: dict[str, set[str]] = {f"ft:tiny:org:region-{number}:1": set() for number in range(12)}
    for _ in range(2):
        for model, by in asked.items():
            by.add(two.ask(model).json()["server"])
    assert all(len(by) == 1 for by in asked.values())
    assert {name for by in asked.values() for name in by} == {"one", "two"}


def test_a_model_that_is_asked_often_at_once_is_asked_of_both(two: Routed) -> None:
    for server in two.servers:
        server.manner = "waits"
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(two.ask) for _ in range(8)]
        wait_until(lambda: sum(len(server.asked) for server in two.servers) == 8)
        assert all(len(server.asked) >= 2 for server in two.servers)
        for server in two.servers:
            server.go.set()
    assert {future.result().status_code for future in asking} == {200}


@pytest.mark.parametrize("manner", ["dies", "dies halfway", "short"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/deployments/any/chat/completions", "/v1/decisions"])
def test_a_question_is_answered_by_another_where_the_first_cannot(two: Routed, manner: str, path: str) -> None:
    one, other = two.favourite()
    one.manner = manner
    answer = two.ask(path=path)
    assert (answer.status_code, answer.json()) == (200, {"server": other.name, "path": path})
    assert answer.headers["x-request-id"] == "req_1"
    assert len(one.asked) == len(other.asked) == 1
    assert one.asked[0]["body"] == other.asked[0]["body"]


def test_a_server_that_is_back_has_its_models_again(two: Routed) -> None:
    one, other = two.favourite()
    one.manner = "dies"
    assert two.ask().json()["server"] == other.name
    one.manner = ""
    wait_until(lambda: two.ask().json()["server"] == one.name)


def test_the_servers_words_are_passed_on_where_none_can(two: Routed) -> None:
    for server in two.servers:
        server.manner = "short"
    answer = two.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "out_of_memory")
    for server in two.servers:
        server.manner = "dies"
    answer = two.ask()
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "No server answers.")
    assert answer.headers["retry-after"] == "1"


def test_a_stream_that_breaks_off_breaks_off_for_the_client_and_is_not_begun_anew(two: Routed) -> None:
    one, other = two.favourite()
    one.manner = "dies in stream"
    body = {"model": MODEL, "stream": True}
    got = b""
    with two.client.stream("POST", CHAT, json=body) as answer, pytest.raises(httpx2.RemoteProtocolError):
        for piece in answer.iter_raw():
            got += piece
    assert got == b'data: {"n": 1}\n\n'
    assert other.asked == []


@pytest.mark.parametrize("changes", [{"path": "/v1/fine_tuning/jobs"}, {"store": True}], ids=["job", "stored"])
def test_what_would_be_done_twice_is_asked_once(two: Routed, changes: dict[str, Any]) -> None:
    for server in two.servers:
        server.manner = "dies"
    answer = two.ask(**changes)
    assert answer.status_code == 502 and "not known" in answer.json()["error"]["message"]
    assert sum(len(server.asked) for server in two.servers) == 1


def test_what_nobody_has_got_yet_is_done_by_who_is_there() -> None:
    with scripted_servers("gone", "there") as [gone, there]:
        with routed(gone.url, there.url) as url:
            gone.shutdown()
            gone.server_close()
            for _ in range(4):
                answer = httpx2.post(f"{url}/v1/files", content=b"a file", timeout=60)
                assert answer.json()["server"] == "there"
        assert [one["body"] for one in there.asked] == [b"a file"] * 4


def test_a_body_is_passed_on_as_it_comes_byte_for_byte(two: Routed) -> None:
    pieces = [bytes([number]) * 200_000 for number in range(50)]
    answer = two.client.post("/v1/uploads/upload_1/parts?x=%2F", content=iter(pieces), headers={"x-what": "ever"})
    [got] = two.servers[0].asked + two.servers[1].asked
    assert answer.json()["path"] == got["path"] == "/v1/uploads/upload_1/parts?x=%2F"
    assert got["body"] == b"".join(pieces) and got["headers"]["x-what"] == "ever"


def test_a_question_there_is_no_room_to_keep_is_passed_on_all_the_same(
    two: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "KEPT_BYTES", 1000)
    answer = two.ask(filler="x" * 100_000)
    assert answer.status_code == 200
    [got] = two.servers[0].asked + two.servers[1].asked
    assert json.loads(got["body"])["filler"] == "x" * 100_000


def test_a_client_that_falls_silent_in_its_body_is_given_up(two: Routed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "BODY_SECONDS", 0.2)
    with socket.create_connection((two.client.base_url.host, two.client.base_url.port or 0), timeout=60) as line:
        line.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 500")
    assert two.servers[0].asked == two.servers[1].asked == []


def test_a_client_that_hangs_up_is_no_longer_answered(two: Routed) -> None:
    one, other = two.favourite()
    one.manner = "waits"
    with pytest.raises(httpx2.ReadTimeout):
        two.client.post(CHAT, json={"model": MODEL}, timeout=0.3)
    assert one.hung_up.wait(60)
    assert other.asked == []


def test_what_a_silent_machine_was_asked_is_asked_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas_module, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(replicas_module, "ANSWER_SECONDS", 0.5)
    with scripted_servers("one", "two") as servers, routed(*(server.url for server in servers)) as url:
        two = Routed(servers, url)
        one, other = two.favourite()
        one.manner = "waits"
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(two.ask)
            wait_until(lambda: one.asked)
            one.silent = True
            assert asking.result().json()["server"] == other.name


def test_the_router_says_whether_anybody_answers_and_has_no_metrics_of_its_own(two: Routed) -> None:
    told = two.client.get("/healthz")
    assert (told.status_code, told.json()["servers"], told.json()["answering"]) == (200, 2, 2)
    assert two.client.get("/metrics").status_code == 404
    with routed("http://127.0.0.1:9") as url:
        told = httpx2.get(f"{url}/healthz")
        assert (told.status_code, told.json()["answering"]) == (503, 0)
        assert httpx2.get(f"{url}/v1/models").status_code == 503
