"""/v1/batches over HTTP, through the unmodified SDK."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from finetune_assets.server.jobs.batch_runner import MAX_TRIES
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("training")

FINAL = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    """A request of a batch; `body` replaces what a good one has."""
    messages = [{"role": "user", "content": f"Is {custom_id} fine?"}]
    wanted = {"model": "tiny-text", "messages": messages, "max_tokens": 2} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": wanted}


def upload(client: openai.OpenAI, lines: list[dict[str, Any]] | bytes, purpose: Any = "batch") -> str:
    content = lines if isinstance(lines, bytes) else "\n".join(json.dumps(entry) for entry in lines).encode()
    return client.files.create(file=("requests.jsonl", content), purpose=purpose).id


def start(client: openai.OpenAI, lines: list[dict[str, Any]] | bytes, **parameters: Any) -> Batch:
    wanted: Any = {"endpoint": "/v1/chat/completions", "completion_window": "24h"} | parameters
    return client.batches.create(input_file_id=upload(client, lines), **wanted)


def wait(client: openai.OpenAI, batch_id: str, *statuses: str) -> Batch:
    deadline = time.monotonic() + PATIENCE_S
    while (batch := client.batches.retrieve(batch_id)).status not in (statuses or FINAL):
        assert time.monotonic() < deadline, batch.status
        assert batch.status not in FINAL, batch.errors
        time.sleep(0.05)
    return batch


def answers(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of an output or error file by their custom ids."""
    assert file_id is not None
    found = [json.loads(entry) for entry in client.files.content(file_id).read().splitlines()]
    return {entry["custom_id"]: entry for entry in found}


@pytest.fixture(scope="module")
def mixed(server: ServerProcess) -> Batch:
    """A finished batch of which some lines are refused."""
    client = server.client()
    lines = [line(f"good-{i}") for i in range(20)]
    lines += [line("too-hot", temperature=9), line("unknown", model="gpt-99"), line("live", stream=True)]
    batch = start(client, lines, metadata={"made_for": "the tests"})
    assert batch.status == "validating"
    assert {"errors", "output_file_id", "in_progress_at", "usage"}.isdisjoint(batch.model_fields_set)
    return wait(client, batch.id)


def test_every_line_is_answered_or_refused_as_by_the_endpoint(client: openai.OpenAI, mixed: Batch) -> None:
    made, refused = answers(client, mixed.output_file_id), answers(client, mixed.error_file_id)
    assert set(made) == {f"good-{i}" for i in range(20)}
    for entry in made.values():
        assert entry["id"].startswith("batch_req_")
        assert entry["error"] is None
        assert entry["response"]["status_code"] == 200
        assert entry["response"]["request_id"].startswith("req_")
        assert entry["response"]["body"]["object"] == "chat.completion"
    codes = {name: (entry["response"]["status_code"], entry["response"]["body"]["error"]["code"])
             for name, entry in refused.items()}  # fmt: skip
    assert codes == {
        "too-hot": (400, "decimal_above_max_value"),
        "unknown": (404, "model_not_found"),
        "live": (400, "unsupported_value"),
    }


def test_a_finished_batch_says_what_became_of_it(client: openai.OpenAI, mixed: Batch) -> None:
    assert mixed.status == "completed"
    assert mixed.request_counts is not None
    assert mixed.request_counts.model_dump() == {"total": 23, "completed": 20, "failed": 3}
    assert mixed.usage is not None
    made = answers(client, mixed.output_file_id).values()
    assert mixed.usage.output_tokens == sum(entry["response"]["body"]["usage"]["completion_tokens"] for entry in made)
    assert mixed.usage.total_tokens == mixed.usage.input_tokens + mixed.usage.output_tokens
    assert mixed.model == "tiny-text"
    assert mixed.metadata == {"made_for": "the tests"}
    stamps = [mixed.created_at, mixed.in_progress_at, mixed.finalizing_at, mixed.completed_at]
    assert stamps == sorted(stamp or 0 for stamp in stamps)
    assert mixed.expires_at == mixed.created_at + 86_400
    assert {"failed_at", "cancelled_at", "expired_at", "errors"}.isdisjoint(mixed.model_fields_set)
    assert client.files.retrieve(mixed.output_file_id or "").purpose == "batch_output"


def test_a_file_without_lines_is_not_made(client: openai.OpenAI) -> None:
    batch = wait(client, start(client, [line("only")]).id)
    assert batch.output_file_id
    assert "error_file_id" not in batch.model_fields_set


def test_output_files_are_kept_as_long_as_asked(client: openai.OpenAI) -> None:
    keep: Any = {"anchor": "created_at", "seconds": 7200}
    batch = wait(client, start(client, [line("a")], output_expires_after=keep).id)
    file = client.files.retrieve(batch.output_file_id or "")
    assert file.expires_at == pytest.approx(file.created_at + 7200, abs=2)


@pytest.mark.parametrize(
    ("content", "code", "number", "param"),
    [
        (b"", "empty_file", None, None),
        (b"\n\n", "empty_file", None, None),
        (b'{"custom_id": "a"', "invalid_json_line", 1, None),
        ([line("a"), line("a")], "duplicate_custom_id", 2, "custom_id"),
        ([line("a"), {"custom_id": "b"}], "missing_required_parameter", 2, "method"),
        ([line("a") | {"method": "GET"}], "invalid_method", 1, "method"),
        ([line("a") | {"url": "/v1/embeddings"}], "invalid_url", 1, "url"),
        ([line("a") | {"body": "hi"}], "invalid_type", 1, "body"),
        ([line("")], "invalid_custom_id", 1, "custom_id"),
        (b"[1]", "invalid_request", 1, None),
    ],
)  # fmt: skip
def test_a_broken_file_fails_the_batch_naming_the_line(
    client: openai.OpenAI, content: Any, code: str, number: int | None, param: str | None
) -> None:
    batch = wait(client, start(client, content).id)
    assert batch.status == "failed"
    assert batch.failed_at
    assert batch.errors is not None
    (error,) = batch.errors.data or []
    assert (error.code, error.line, error.param) == (code, number, param)
    assert batch.request_counts is not None
    assert batch.request_counts.total == 0


def test_more_lines_than_allowed_fail_the_batch(client: openai.OpenAI) -> None:
    lines = b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":{}}\n'
    batch = wait(client, start(client, b"".join(lines % i for i in range(50_001))).id)
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or []] == ["too_many_tasks"]


@pytest.mark.parametrize(
    ("parameters", "param", "code"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint", "unsupported_value"),
        ({"endpoint": "/v1/nothing"}, "endpoint", "invalid_value"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"input_file_id": "file-none"}, "input_file_id", "file_not_found"),
        ({"metadata": {"k": 1}}, "metadata.k", "invalid_type"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds",
         "integer_below_min_value"),
        ({"extra_body": {"priority": 1}}, "priority", "unknown_parameter"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_naming_the_parameter(
    client: openai.OpenAI, parameters: dict[str, Any], param: str, code: str
) -> None:
    wanted: Any = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": "file-x"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**(wanted | parameters))
    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_file_of_another_purpose_is_refused(client: openai.OpenAI) -> None:
    file = upload(client, [line("a")], purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="purpose 'batch'"):
        client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")


def test_batches_are_listed_in_pages_the_newest_first(client: openai.OpenAI, mixed: Batch) -> None:
    newest = [start(client, [line("a")]).id for _ in range(2)][::-1]
    page = client.batches.list(limit=1)
    assert [batch.id for batch in page.data] == newest[:1]
    assert page.has_more
    listed = [batch.id for batch in client.batches.list(limit=3)]
    assert listed[:2] == newest
    assert mixed.id in listed
    with pytest.raises(openai.BadRequestError, match="after"):
        client.batches.list(after="batch_none")


def test_an_unknown_batch_is_not_found(client: openai.OpenAI) -> None:
    for ask in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="batch_none"):
            ask("batch_none")


def test_a_finished_batch_cannot_be_cancelled(client: openai.OpenAI, mixed: Batch) -> None:
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a batch with status 'completed'"):
        client.batches.cancel(mixed.id)


def test_a_cancelled_batch_keeps_what_was_answered(client: openai.OpenAI) -> None:
    batch = start(client, [line(f"r{i}", max_tokens=30) for i in range(400)])
    while not (counts := client.batches.retrieve(batch.id).request_counts) or counts.completed < 5:
        time.sleep(0.02)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = wait(client, batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelling_at
    assert batch.cancelled_at
    assert batch.request_counts is not None
    made = answers(client, batch.output_file_id)
    assert 5 <= len(made) == batch.request_counts.completed < 400


def test_a_killed_server_goes_on_where_it_was_and_repeats_nothing(home: Path) -> None:
    lines = [line(f"r{i}", max_tokens=20) for i in range(200)]
    with ServerProcess(home) as server:
        client = server.client()
        batch = wait(client, start(client, lines).id, "in_progress")
        client.files.delete(batch.input_file_id)
        folder = home / "batches" / batch.id
        while not (folder / "output.jsonl").exists():
            assert client.batches.retrieve(batch.id).status == "in_progress"
            time.sleep(0.01)
        server.kill()
        before = (folder / "output.jsonl").read_bytes()
        (folder / "output.jsonl").write_bytes(before + b'{"custom_id": "r1')
    with ServerProcess(home) as server:
        client = server.client()
        batch = wait(client, batch.id)
        assert batch.status == "completed"
        content = client.files.content(batch.output_file_id or "").read()
        assert content.startswith(before)
        found = [json.loads(entry)["custom_id"] for entry in content.splitlines()]
        assert sorted(found) == sorted(entry["custom_id"] for entry in lines)
        assert batch.usage is not None
        assert batch.usage.output_tokens <= 20 * len(lines)
        wait_until(lambda: not folder.exists(), lambda: f"{folder} is left")


def test_a_batch_whose_time_is_over_tells_the_lines_that_are_left(home: Path) -> None:
    with ServerProcess(home) as server:
        batch = start(server.client(), [line(f"r{i}", max_tokens=30) for i in range(300)])
        wait(server.client(), batch.id, "in_progress")
        server.kill()
    _make_overdue(home, batch.id)
    with ServerProcess(home) as server:
        client = server.client()
        batch = wait(client, batch.id)
        assert (batch.status, bool(batch.expired_at)) == ("expired", True)
        left = answers(client, batch.error_file_id)
        assert {entry["error"]["code"] for entry in left.values()} == {"batch_expired"}
        assert all(entry["response"] is None for entry in left.values())
        assert batch.request_counts is not None
        assert batch.request_counts.failed == len(left) == 300 - batch.request_counts.completed


def _make_overdue(home: Path, batch_id: str) -> None:
    """As if the server had been down for a day."""
    with sqlite3.connect(home / "server.db") as database:
        database.execute("UPDATE batches SET expires_at = ? WHERE id = ?", (int(time.time()) - 1, batch_id))


def test_a_batch_that_another_server_took_up_and_let_go_is_taken_up_again(home: Path) -> None:
    with ServerProcess(home) as server, closing(sqlite3.connect(home / "server.db", isolation_level=None)) as rows:
        client = server.client()
        batch = start(client, [line(f"r{i}", max_tokens=30) for i in range(60)])
        wait(client, batch.id, "in_progress")
        rows.execute("UPDATE batches SET claim = claim + 1, lease_until = 9e9")
        wait(client, start(client, [line("other")]).id)  # which has the server look at all of them
        assert client.batches.retrieve(batch.id).status == "in_progress"
        rows.execute("UPDATE batches SET lease_until = NULL WHERE id = ?", [batch.id])
        wait(client, start(client, [line("another")]).id)
        counts = wait(client, batch.id).request_counts
        assert counts and (counts.completed, counts.total) == (60, 60)


def test_a_batch_that_cannot_be_worked_on_fails_after_some_tries(home: Path) -> None:
    with ServerProcess(home) as server:
        batch = start(server.client(), [line(f"r{i}", max_tokens=30) for i in range(300)])
        wait(server.client(), batch.id, "in_progress")
        server.kill()
    lines = home / "batches" / batch.id / "input.jsonl"
    lines.unlink()
    lines.mkdir()
    with ServerProcess(home) as server:
        client = server.client()
        for i in range(MAX_TRIES):  # each new batch has the server look at all of them
            wait(client, start(client, [line(f"other-{i}")]).id)
        batch = client.batches.retrieve(batch.id)
        assert batch.status == "failed"
        assert batch.errors is not None and batch.errors.data is not None
        assert [error.code for error in batch.errors.data] == ["server_error"]
        assert not (home / "batches" / batch.id).exists()
