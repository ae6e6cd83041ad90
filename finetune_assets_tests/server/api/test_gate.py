"""What every request meets first: the key, the size limit, the request id, and one shape of error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetune_assets.server.api.gate import Gate
from finetune_assets.server.api.places import Places
from finetune_assets.server.api.wire import ApiError
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.keys import Keys
from finetune_assets_tests.server_process import ServerProcess


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx2.Client]:
    """Raw HTTP, with the key."""
    with httpx2.Client(base_url=server.base_url, headers={"Authorization": f"Bearer {server.key}"}) as client:
        yield client


def error(response: httpx2.Response) -> dict[str, str | None]:
    """The error of the envelope, which holds nothing else."""
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize("key", ["wrong", "sk-test-ke", "sk-test-key2", "schlüssel"])
def test_a_wrong_key_is_refused_without_repeating_it(server: ServerProcess, key: str) -> None:
    headers = {b"Authorization": f"Bearer {key}".encode("latin-1")}
    response = httpx2.get(f"{server.base_url}/models", headers=headers)
    assert response.status_code == 401
    assert error(response)["code"] == "invalid_api_key"
    assert key not in response.text


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/nothing", "/v1/files/x/content"])
def test_without_a_key_nothing_is_told(server: ServerProcess, path: str) -> None:
    response = httpx2.get(server.base_url.removesuffix("/v1") + path)
    assert response.status_code == 401
    assert error(response)["type"] == "invalid_request_error"


def test_azures_sdk_needs_another_address_and_nothing_else(server: ServerProcess) -> None:
    endpoint = server.base_url.removesuffix("/v1")
    client = openai.AzureOpenAI(azure_endpoint=endpoint, api_key=server.key, api_version="2024-10-21", max_retries=0)
    uploaded = client.files.create(file=("train.jsonl", b'{"azure": 1}\n'), purpose="fine-tune")
    answer = client.chat.completions.create(
        model="tiny-text", messages=[{"role": "user", "content": "Hello"}], max_tokens=1
    )
    assert client.files.content(uploaded.id).read() == b'{"azure": 1}\n'
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert len(client.fine_tuning.jobs.list(limit=1).data) <= 1


def test_health_needs_no_key(server: ServerProcess) -> None:
    response = httpx2.get(server.base_url.removesuffix("/v1") + "/healthz")
    assert response.json()["status"] == "ok"


@pytest.mark.parametrize(
    ("path", "status"), [("/models", 200), ("/models/none", 404), ("/none", 404), ("/files?limit=x", 400)]
)
def test_every_answer_has_a_request_id(http: httpx2.Client, path: str, status: int) -> None:
    first, second = http.get(path), http.get(path)
    assert first.status_code == status
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_the_sdk_finds_the_request_id(client: openai.OpenAI) -> None:
    assert (client.models.list()._request_id or "").startswith("req_")
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("none")
    assert (missing.value.request_id or "").startswith("req_")


def test_an_unknown_url_is_named(http: httpx2.Client) -> None:
    response = http.post("/embeddings", json={})
    assert response.status_code == 404
    assert error(response)["message"] == "Invalid URL (POST /v1/embeddings)"


def test_a_wrong_method_is_named(http: httpx2.Client) -> None:
    response = http.put("/files")
    assert response.status_code == 405
    assert error(response)["message"] == "Not allowed to PUT on /v1/files"


@pytest.mark.parametrize(
    "body", [b"", b"[", b"3", b"null", b'"text"', b"\xff", b'{"model": "\\ud800"}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_is_a_bad_request(http: httpx2.Client, body: bytes) -> None:
    response = http.post("/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert error(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize("sent", [{}, {"content-type": "application/x-www-form-urlencoded"}])
def test_json_that_is_not_said_to_be_json_is_told_so(http: httpx2.Client, sent: dict[str, str]) -> None:
    body = b'{"model": "tiny-text", "input": "x", "questions": []}'
    for path in ("/decisions", "/chat/completions"):
        refused = http.post(path, content=body, headers=sent)
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_content_type")
        assert "'Content-Type: application/json'" in refused.json()["error"]["message"]


def test_a_broken_form_is_a_bad_request(http: httpx2.Client) -> None:
    broken = http.post("/files", content=b"abc", headers={"Content-Type": "multipart/form-data; boundary=x"})
    without_file = http.post("/files", data={"purpose": "batch"})
    assert broken.status_code == without_file.status_code == 400
    assert error(without_file)["param"] == "file"


def chunks(megabytes: int) -> Iterator[bytes]:
    yield from (b"x" * (1 << 20) for _ in range(megabytes))


def test_a_client_that_stops_sending_is_given_up(tmp_path: Path) -> None:
    sent: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        raise AssertionError("the body has come")

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": [(b"authorization", b"Bearer k")]}
    asyncio.run(_gate(_answering_refusals(app), tmp_path)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert b"within 0.05 seconds" in sent[1]["body"]


def test_an_answer_that_comes_before_all_of_the_request_leaves_the_connection_usable(server: ServerProcess) -> None:
    fields = b"".join(b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n' for _ in range(50_000))
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "multipart/form-data; boundary=b"}
    with httpx2.Client(base_url=server.base_url, headers=headers, timeout=60) as http:
        for _ in range(3):
            assert http.post("/files", content=fields).status_code == 400
            assert http.get("/files?limit=1").status_code == 200


def _gate(app: ASGIApp, folder: Path) -> Gate:
    return Gate(app, Keys(folder, "k"), Places(), Stores(folder).usage, patience=0.05)


def _answering_refusals(app: ASGIApp) -> ASGIApp:
    """What FastAPI does around every route."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)

    return answer


def test_too_large_a_body_is_refused_whether_or_not_it_tells_its_size(http: httpx2.Client) -> None:
    for content in (b"x" * (65 << 20), chunks(65)):
        response = http.post("/chat/completions", content=content)
        assert response.status_code == 413
        assert "64 MB" in (error(response)["message"] or "")
