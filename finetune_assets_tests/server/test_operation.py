"""What whoever runs the server looks at: its health, its metrics, and the description of its API."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from finetune_assets_tests.server.conftest import training_lines, upload
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("training")


@pytest.fixture
def root(server: ServerProcess) -> httpx2.Client:
    """Raw HTTP without a key."""
    return httpx2.Client(base_url=server.base_url.removesuffix("/v1"), timeout=60)


def samples(root: httpx2.Client, name: str, **labels: str) -> float:
    """The sum of a metric's values that have these labels."""
    answer = root.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in found if labels.items() <= sample.labels.items())


def test_health_needs_no_key(root: httpx2.Client) -> None:
    assert root.get("/healthz").json()["status"] == "ok"


def test_requests_are_counted_by_route_and_never_by_what_clients_write(
    root: httpx2.Client, client: openai.OpenAI
) -> None:
    labels = {"method": "GET", "route": "/v1/models/{model:path}", "status": "404"}
    before = samples(root, "http_requests_total", **labels)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("a-secret-name")
    root.request("PROPFIND", "/secret-path")
    text = root.get("/metrics").text
    assert samples(root, "http_requests_total", **labels) == before + 1
    assert samples(root, "http_request_duration_seconds_count", method="other") > 0
    assert "secret" not in text.lower()
    assert "propfind" not in text.lower()


def test_jobs_are_counted_by_state(root: httpx2.Client, client: openai.OpenAI) -> None:
    before = samples(root, "fine_tuning_jobs", state="cancelled")
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=upload(client, training_lines(10)))
    client.fine_tuning.jobs.cancel(job.id)
    assert samples(root, "fine_tuning_jobs", state="cancelled") == before + 1


def test_tokens_are_counted(root: httpx2.Client, client: openai.OpenAI) -> None:
    before = {kind: samples(root, "completion_tokens_total", kind=kind) for kind in ("prompt", "generated")}
    asked: Any = {"model": "tiny-text", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    used = client.chat.completions.create(**asked).usage
    assert used is not None
    list(client.chat.completions.create(**asked, stream=True))
    assert samples(root, "completion_tokens_total", kind="prompt") == before["prompt"] + 2 * used.prompt_tokens
    assert samples(root, "completion_tokens_total", kind="generated") > before["generated"] + used.completion_tokens
    assert samples(root, "completions_in_flight") == 0
    assert samples(root, "process_resident_memory_bytes") > 0
    assert samples(root, "process_open_fds") > 0


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def test_the_description_of_the_api_names_every_answer_and_the_key(root: httpx2.Client) -> None:
    description = root.get("/openapi.json").json()
    found = operations(description)
    assert len({operation["operationId"] for operation in found.values()}) == len(found)
    for name, operation in found.items():
        assert " " in operation["summary"], name
        assert bool(operation.get("security")) == ("/v1/" in name), name
        if "/v1/" in name:
            assert set(operation["responses"]) == {"200", "4XX", "5XX"}, name
            error = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert error == {"$ref": "#/components/schemas/ErrorAnswer"}, name
    assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in description["components"]["schemas"]


def test_the_description_of_a_completion_is_as_strict_as_the_endpoint(root: httpx2.Client) -> None:
    schemas = root.get("/openapi.json").json()["components"]["schemas"]
    body = schemas["ChatBody"]
    assert body["additionalProperties"] is False
    assert body["required"] == ["model", "messages"]
    assert body["properties"]["max_tokens"]["description"].startswith("Deprecated")
    assert set(body["properties"]["messages"]["items"]["discriminator"]["mapping"]) == {
        "developer", "system", "user", "assistant", "tool",
    }  # fmt: skip


def test_the_page_of_the_api_is_there_without_a_key(root: httpx2.Client) -> None:
    page = root.get("/docs")
    assert page.status_code == 200
    assert "/v1/chat/completions" in page.text
    assert "<script" not in page.text
    assert "src=" not in page.text
