"""/metrics in Prometheus' format: requests, completions and their tokens, jobs and batches, and the process itself.

Labels hold route templates, methods and states, never anything that a client wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from openai.types import CompletionUsage
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from finetune_assets.server.generation.requests import Generation

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The numbers of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ["method", "route", "status"]
        self.requests = Counter("http_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "From a request's first byte to its answer's last.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.completions_in_flight = Gauge(
            "completions_in_flight", "Completions asked for and not yet answered.", registry=self.registry
        )
        self.tokens = Counter(
            "completion_tokens",
            "Tokens of completions: prompt (read), cached (of these, known already), generated.",
            ["kind"],
            registry=self.registry,
        )

    def watch(self, name: str, description: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Add a gauge by `state`, which is read anew at every look."""
        self.registry.register(_States(name, description, read))

    def count_generation(self, generation: Generation) -> None:
        """Count the tokens of a completion."""
        self._count(generation.prompt_tokens, generation.cached_tokens, generation.completion_tokens)

    def count_usage(self, usage: CompletionUsage | None) -> None:
        """Count the tokens of a completion that says what it used."""
        if usage is not None:
            cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
            self._count(usage.prompt_tokens, cached or 0, usage.completion_tokens)

    def exposition(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count(self, prompt: int, cached: int, generated: int) -> None:
        self.tokens.labels("prompt").inc(prompt)
        self.tokens.labels("cached").inc(cached)
        self.tokens.labels("generated").inc(generated)


class Measured:
    """ASGI middleware around everything else: counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request and note how that went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = "aborted"

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            status = "500"  # which Starlette answers outside all middleware
            raise
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(method, route).observe(time.perf_counter() - started)


class _States(Collector):
    def __init__(self, name: str, description: str, read: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._description, self._read = name, description, read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._description, labels=["state"])
        for state, count in self._read().items():
            family.add_metric([state], count)
        yield family

    def describe(self) -> list[GaugeMetricFamily]:
        # Without it, the registry would read the values when this is registered.
        return [GaugeMetricFamily(self._name, self._description, labels=["state"])]
