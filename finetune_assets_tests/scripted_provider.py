"""A provider whose jobs stand as a test says, over real HTTP: for states that no real training reaches on demand."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import openai


@dataclass
class ScriptedProvider:
    """Lists `jobs` in pages, newest first, and serves their events and files; counts what it was asked."""

    base_url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By job, newest first."""
    contents: dict[str, bytes] = field(default_factory=dict)
    """By file id."""
    unknown_parameters: set[str] = field(default_factory=set)
    """Of a new job: refused as servers built on FastAPI refuse what they do not know."""
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoints: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By job, newest first. A job without an entry has a provider that offers none."""
    cuts: int = 0
    """How many more contents of files are cut to fit, each elsewhere."""
    counts_bytes: bool = True
    """Whether it states the size of its files as they are sent."""
    asked: Counter[str] = field(default_factory=Counter)
    """Number of requests by kind: list, retrieve, events, content, create."""

    def client(self) -> openai.OpenAI:
        """The unmodified SDK, which repeats nothing."""
        return openai.OpenAI(base_url=self.base_url, api_key="k", max_retries=0)

    def add_job(self, job_id: str, status: str = "running", **fields: Any) -> None:
        """Put a job in front of the list."""
        job = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": 1_800_000_000,
            "error": None,
            "fine_tuned_model": f"ft:{job_id}" if status == "succeeded" else None,
            "finished_at": None,
            "hyperparameters": {},
            "model": "base",
            "organization_id": "org-local",
            "result_files": [],
            "seed": 42,
            "status": status,
            "trained_tokens": None,
            "training_file": "file-1",
            "validation_file": None,
        }
        self.jobs = {job_id: job | fields, **{key: value for key, value in self.jobs.items() if key != job_id}}

    def add_step(self, job_id: str, **data: Any) -> None:
        """Add a metrics event to a job."""
        number = len(self.events.setdefault(job_id, []))
        event = {
            "id": f"ftevent-{job_id}-{number}",
            "object": "fine_tuning.job.event",
            "created_at": 1_800_000_000 + number,
            "level": "info",
            "message": "a step",
            "type": "metrics",
            "data": data,
        }
        self.events[job_id].insert(0, event)

    def add_checkpoint(self, job_id: str, step: int, **metrics: float) -> None:
        """Add a checkpoint to a job."""
        made = {
            "id": f"ftckpt-{step}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": 1_800_000_000 + step,
            "fine_tuned_model_checkpoint": f"ft:{job_id}:ckpt-step-{step}",
            "step_number": step,
            "fine_tuning_job_id": job_id,
            "metrics": metrics,
        }
        self.checkpoints.setdefault(job_id, []).insert(0, made)

    def add_model(self, model: str, shutdown_date: str | None = None, **more: Any) -> None:
        """Let the provider serve a model; `more` is what else it says of it."""
        facts = {"id": model, "object": "model", "created": 1_800_000_000, "owned_by": "us"}
        self.models[model] = facts | {"shutdown_date": shutdown_date} | more

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """Return the body for a GET, or None where there is nothing."""
        parts = path.removeprefix("/v1/").split("/")
        match parts:
            case ["fine_tuning", "jobs"]:
                self.asked["list"] += 1
                return _page(list(self.jobs.values()), query)
            case ["fine_tuning", "jobs", job_id]:
                self.asked["retrieve"] += 1
                return self.jobs.get(job_id)
            case ["fine_tuning", "jobs", job_id, "events"]:
                self.asked["events"] += 1
                return _page(self.events.get(job_id, []), query)
            case ["files", file_id]:
                content = self.contents.get(file_id)
                return None if content is None else _file(file_id, len(content) if self.counts_bytes else 1)
            case ["fine_tuning", "jobs", job_id, "checkpoints"]:
                found = self.checkpoints.get(job_id)
                return None if found is None else _page(found, query)
            case ["models", model]:
                return self.models.get(unquote(model))
            case ["files", file_id, "content"]:
                self.asked["content"] += 1
                content = self.contents.get(file_id)
                if content is None or not self.cuts:
                    return content
                self.cuts -= 1
                return content[: len(content) // (self.cuts + 2)]
        return None

    def create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Make a queued job of the body of a POST; the status, and the job or why there is none."""
        self.asked["create"] += 1
        unknown = sorted(self.unknown_parameters & set(body))
        if unknown:
            return 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", unknown[0]], "msg": "not permitted"}]}
        method = body.pop("method", None)
        hyperparameters = method["supervised"]["hyperparameters"] if method else body.pop("hyperparameters", {})
        job_id = f"ftjob-{len(self.jobs)}"
        self.add_job(job_id, "queued", seed=None, hyperparameters=hyperparameters)
        self.jobs[job_id] |= body
        return 200, self.jobs[job_id]


@contextmanager
def scripted_provider() -> Iterator[ScriptedProvider]:
    """Serve a scripted provider on a free port of this machine."""
    provider = ScriptedProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = provider.answer(url.path, parse_qs(url.query))
            missing = {"error": {"message": f"no {url.path}", "type": "x", "param": None, "code": None}}
            data = body if isinstance(body, bytes) else json.dumps(missing if body is None else body).encode()
            self._send(404 if body is None else 200, data)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = provider.create(body)
            self._send(status, json.dumps(answer).encode())

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    provider.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


def _file(file_id: str, size: int) -> dict[str, Any]:
    return {
        "id": file_id,
        "object": "file",
        "bytes": size,
        "created_at": 1_700_000_000,
        "filename": "train.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
    }


def _page(items: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
    limit = int(query.get("limit", ["20"])[0])
    start = 0
    if "after" in query:
        start = 1 + next(index for index, item in enumerate(items) if item["id"] == query["after"][0])
    page = items[start : start + limit]
    return {"object": "list", "data": page, "has_more": start + limit < len(items)}
