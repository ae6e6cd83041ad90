"""A provider that answers questions as a test says, over real HTTP, and counts what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai

from finetune_assets.provider.completions import Messages

Response = tuple[int, dict[str, Any], dict[str, str]]
"""Status, body, and headers beside the usual ones."""


def question(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def text_of(asked: dict[str, Any]) -> str:
    """The words of the last message of a request."""
    content = asked["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def completion(text: str, top: list[tuple[str, float]] | None = None) -> Response:
    """An answer of one token, with the candidates for it."""
    candidates = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in top or []]
    content = [{"token": text, "logprob": 0.0, "bytes": None, "top_logprobs": candidates}]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": {"content": content, "refusal": None} if top else None,
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return 200, whole, {}


def refusal(status: int, words: str = "refused", code: str | None = None, **headers: str) -> Response:
    return status, {"error": {"message": words, "type": "x", "param": None, "code": code}}, headers


def echo(asked: dict[str, Any]) -> Response:
    return completion(text_of(asked))


@dataclass
class AnsweringProvider:
    """Answers each request by a function of its body."""

    answer: Callable[[dict[str, Any]], Response] = echo
    latency_s: float = 0.0
    made: int | None = None
    """When its models were made; None is a provider that does not tell."""
    base_url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    """When each came, of `time.monotonic`."""
    n_answered: int = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def questions(self) -> list[str]:
        """The words of all requests, as they came."""
        return [text_of(asked) for asked in self.asked]

    def client(self, max_retries: int = 0) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.base_url, api_key="k", max_retries=max_retries)

    def respond(self, asked: dict[str, Any]) -> Response:
        with self.lock:
            self.asked.append(asked)
            self.asked_at.append(time.monotonic())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.latency_s)
            return self.answer(asked)
        finally:
            with self.lock:
                self.at_once -= 1
                self.n_answered += 1


@contextmanager
def answering_provider(provider: AnsweringProvider) -> Iterator[AnsweringProvider]:
    """Serve it on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if provider.made is None:
                return self._send(refusal(404))
            return self._send((200, {"id": "m", "object": "model", "created": provider.made, "owned_by": "us"}, {}))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self._send(provider.respond(asked))
            except ConnectionError:
                self.close_connection = True

        def _send(self, response: Response) -> None:
            status, body, headers = response
            data = json.dumps(body).encode()
            self.send_response(status)
            usual = {"Content-Type": "application/json", "Content-Length": str(len(data))}
            for name, value in {**usual, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    provider.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
