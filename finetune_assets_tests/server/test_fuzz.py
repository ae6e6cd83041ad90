"""Whatever is sent, an answer comes: never a 500, never silence, and nothing is held on to afterwards.

Requests are made from the server's own OpenAPI description, half of them as it says and half of them not; bytes that
break HTTP itself are written by hand. `FUZZ_REQUESTS=10000` sends as many instead of a few.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.conftest import training_lines, upload
from finetune_assets_tests.server_process import KEY, ServerProcess, make_home

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "200"))
MAX_GROWTH_BYTES = 64 << 20
HEADERS = f"Host: x\r\nAuthorization: Bearer {KEY}\r\n"
CHAT = f"POST /v1/chat/completions HTTP/1.1\r\n{HEADERS}Content-Type: application/json\r\n"
FILES = f"POST /v1/files HTTP/1.1\r\n{HEADERS}Content-Type: multipart/form-data"
PURPOSE = '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own: what it is made to keep and to start is nobody else's business."""
    with ServerProcess(make_home(tmp_path_factory.mktemp("fuzzed"))) as running:
        yield running


def address(server: ServerProcess) -> str:
    return server.base_url.removesuffix("/v1")


def description(server: ServerProcess) -> dict[str, Any]:
    """The server's OpenAPI description, with ids that exist offered beside all others."""
    with server.client() as client:
        # Of nine examples: such a job fails in its validation, so that jobs are made, but none trains.
        file = upload(client, training_lines(9))
        job = client.fine_tuning.jobs.create(model="tiny-text", training_file=file)
    known = {"model": "tiny-text", "training_file": file, "file_id": file, "input_file_id": file, "job_id": job.id}

    def offer(name: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "enum": [known[name]]}, schema]} if name in known else schema

    described = httpx2.get(f"{address(server)}/openapi.json", timeout=PATIENCE_S).raise_for_status().json()
    for schema in described["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            schema["properties"][name] = offer(name, field)
    for path in described["paths"].values():
        for parameter in (parameter for operation in path.values() for parameter in operation.get("parameters", [])):
            parameter["schema"] = offer(parameter["name"], parameter["schema"])
    return described


def requests(described: dict[str, Any]) -> st.SearchStrategy[schemathesis.Case]:
    """Requests to every operation."""
    operations = [
        found.ok() for found in schemathesis.openapi.from_dict(described).get_all_operations() if isinstance(found, Ok)
    ]
    return st.one_of(
        [operation.as_strategy(generation_mode=mode) for operation in operations for mode in GenerationMode]
    )


def size(server: ServerProcess) -> tuple[int, int]:
    """Bytes of memory and open file handles of the server once nobody speaks to it."""
    process = psutil.Process(server.process.pid)
    wait_until(lambda: all(found.status != psutil.CONN_ESTABLISHED for found in process.net_connections("tcp")))
    return process.memory_info().rss, process.num_fds()


def test_every_request_has_its_answer_and_leaves_nothing_behind(fuzzed: ServerProcess) -> None:
    described = requests(description(fuzzed))
    with fuzzed.client() as client:
        client.chat.completions.create(model="tiny-text", messages=[{"role": "user", "content": "?"}], max_tokens=1)
    sizes = []
    for part in range(2):

        @settings(
            max_examples=REQUESTS // 2,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            database=None,
            derandomize=True,
        )
        @given(described, st.just(part))
        def is_answered(case: schemathesis.Case, _part: int) -> None:
            headers = {"Authorization": f"Bearer {KEY}"}
            response = case.call(base_url=address(fuzzed), headers=headers, timeout=PATIENCE_S)
            assert response.status_code < 500, response.text
            assert response.headers["x-request-id"]

        is_answered()
        sizes.append(size(fuzzed))
    (memory, handles), (memory_after, handles_after) = sizes
    # A database connection more or less is no leak.
    assert handles_after <= handles + 5
    assert memory_after < memory + MAX_GROWTH_BYTES


NASTY = {
    "no json": f"{CHAT}Content-Length: 1\r\n\r\n{{",
    "not a number": f'{CHAT}Content-Length: 19\r\n\r\n{{"temperature": NaN}}',
    "infinity": f'{CHAT}Content-Length: 21\r\n\r\n{{"temperature": 1e999}}',
    "huge integer": f'{CHAT}Content-Length: 5009\r\n\r\n{{"seed":{"9" * 5000}}}',
    "deep nesting": f"{CHAT}Content-Length: 100000\r\n\r\n{'[' * 100_000}",
    "null byte": f'{CHAT}Content-Length: 16\r\n\r\n{{"model":"\\u0000"}}',
    "lone surrogate": f'{CHAT}Content-Length: 18\r\n\r\n{{"model": "\\ud800"}}',
    "not utf-8": f'{CHAT}Content-Length: 13\r\n\r\n{{"model":"\xff"}}',
    "another content type": f"{CHAT.replace('json', 'x-www-form-urlencoded')}Content-Length: 3\r\n\r\na=b",
    "negative length": f"{CHAT}Content-Length: -1\r\n\r\n{{}}",
    "length in words": f"{CHAT}Content-Length: twelve\r\n\r\n{{}}",
    "two lengths": f"{CHAT}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
    "body cut off": f"{CHAT}Content-Length: 100\r\n\r\n{{",
    "chunks cut off": f"{CHAT}Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "chunk without size": f"{CHAT}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "form without boundary": f"{FILES}\r\nContent-Length: 3\r\n\r\nabc",
    "form of another boundary": f"{FILES}; boundary=c\r\nContent-Length: {len(PURPOSE)}\r\n\r\n{PURPOSE}",
    "form without end": f"{FILES}; boundary=b\r\nContent-Length: {len(PURPOSE)}\r\n\r\n{PURPOSE}",
    "form with twins": f"{FILES}; boundary=b\r\nContent-Length: {2 * len(PURPOSE) + 5}\r\n\r\n{PURPOSE * 2}--b--",
    "form cut off": f"{FILES}; boundary=b\r\nContent-Length: 100000\r\n\r\n{PURPOSE}",
    "path out of the folder": f"GET /v1/files/..%2f..%2fapi_key/content HTTP/1.1\r\n{HEADERS}\r\n",
    "path with a null byte": f"GET /v1/files/%00 HTTP/1.1\r\n{HEADERS}\r\n",
    "path not utf-8": f"GET /v1/models/%ff%fe HTTP/1.1\r\n{HEADERS}\r\n",
    "endless path": f"GET /v1/models/{'x' * 60_000} HTTP/1.1\r\n{HEADERS}\r\n",
    "negative limit": f"GET /v1/files?limit=-1 HTTP/1.1\r\n{HEADERS}\r\n",
    "a limit beyond all": f"GET /v1/fine_tuning/jobs?limit={'9' * 400} HTTP/1.1\r\n{HEADERS}\r\n",
    "a limit twice": f"GET /v1/files?limit=1&limit=x HTTP/1.1\r\n{HEADERS}\r\n",
    "filter in brackets": f"GET /v1/fine_tuning/jobs?metadata[][]=%00&metadata[=x HTTP/1.1\r\n{HEADERS}\r\n",
    "header beyond all": f"GET /v1/models HTTP/1.1\r\n{HEADERS}X-Long: {'x' * 100_000}\r\n\r\n",
    "key not ascii": "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xe9\xff\r\n\r\n",
    "two keys": f"GET /v1/models HTTP/1.1\r\n{HEADERS}Authorization: Bearer x\r\n\r\n",
    "no http": "\x16\x03\x01\x02\x00\x01\x00",
    "unknown method": f"BREW /v1/files HTTP/1.1\r\n{HEADERS}\r\n",
    "websocket": f"GET /v1/files HTTP/1.1\r\n{HEADERS}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}
"""Whole requests as they go over the wire, in latin-1, so that every byte can be written."""


@pytest.mark.parametrize("request_", NASTY.values(), ids=NASTY.keys())
def test_nothing_on_the_wire_makes_it_fail(fuzzed: ServerProcess, request_: str) -> None:
    answer = exchange(fuzzed, request_.encode("latin-1"))
    # A request that ends before its body does is answered by closing the connection.
    assert answer == b"" or answer.split(b" ")[1][:1] in (b"2", b"4"), answer[:500]
    assert httpx2.get(f"{address(fuzzed)}/healthz").status_code == 200


def exchange(server: ServerProcess, request: bytes) -> bytes:
    """Everything the server says to `request` until it closes the connection, at which it has a while."""
    host, port = address(server).removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(1 << 16):
                answer += received
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had read enough
        return answer
