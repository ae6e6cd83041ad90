"""Many questions to one model: many at once, as fast as the provider lets us, answered in order, in flat memory.

The caller's thread builds the requests one by one and looks each up in what was answered before. An event loop in a
thread of its own sends the others, keeps each answer as it comes, and slows down where the provider wants that. Memory
holds the requests under way and a window of replies, which are small: one slow answer does not hold up the others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import httpx2
import openai
from anyio.from_thread import start_blocking_portal

from finetune_assets.provider.answer_cache import AnswerCache, key_of
from finetune_assets.provider.client import Client, asynchronous, explained, message
from finetune_assets.provider.completions import Messages, Reply, Settings, read_reply
from finetune_assets.provider.once import may_pass, pause
from finetune_assets.provider.pace import Pace
from finetune_assets.provider.progress import Progress

AHEAD = 4096
"""Replies that are kept while an earlier one is still to come."""
_OVERLOADED = (429, 503, 529)
"""Statuses that ask everyone to be slower, not one request to be repeated."""

logger = logging.getLogger(__name__)


def ask_all(
    client: Client,
    settings: Settings,
    requests: Iterable[Messages],
    *,
    cache: AnswerCache | None = None,
    concurrency: int = 64,
    total: int | None = None,
    say: Callable[[str], None] = logger.info,
) -> Iterator[Reply]:
    """Yield the model's reply to each request, in the order of the requests; those in the cache are not sent.

    A request that is refused for its own content yields a reply with an `error`. Trouble that concerns all of them (no
    answer, wrong key, unknown model, a rate limit that never ends) is raised, because an outage scored as wrong answers
    would look like a bad model. How far it is is said every ten seconds, and at the end.

    Args:
        client: Speaks to the provider; its `max_retries` are granted to each request.
        settings: The model, and how it is asked.
        requests: Drawn from as they are sent.
        cache: Where answers are looked up and kept.
        concurrency: Most requests under way at once.
        total: How many there will be, for the time that is left.
        say: Is told how far it is.

    Raises:
        ProviderError: the provider does not answer, or refuses to serve the model.
        AnswerCacheError: answers cannot be read or kept.
    """
    patient = client.with_options(timeout=settings.patience_s)
    pace = Pace(concurrency)
    window = _Window(concurrency, Progress(settings.model, pace, total, say))
    with (
        explained(client),
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_line(patient, pace, cache)) as line,
    ):
        made = made_at(client, settings.model) if cache else None
        for messages in requests:
            body = settings.body(messages)
            key = key_of(str(client.base_url), made, body)
            known = cache.get(key) if cache else None
            window.add(known or portal.start_task_soon(line.ask, key, body))
            yield from window.take()
        yield from window.take_all()


def made_at(client: Client, model: str) -> int | None:
    """Return when the model was made, in Unix seconds; None where the provider does not say.

    An alias of the local server is as old as the file that says what it stands for.

    Raises:
        openai.APIError: the key is wrong, or the provider does not answer.
    """
    try:
        return client.models.retrieve(model).created
    except openai.AuthenticationError:
        raise
    except openai.APIStatusError:
        return None


class _Window:
    """Questions in their order, answered or under way."""

    def __init__(self, concurrency: int, progress: Progress) -> None:
        self._concurrency = concurrency
        self._progress = progress
        self._questions: deque[Reply | Future[Reply]] = deque()
        self._running = 0
        self._finished: SimpleQueue[Future[Reply]] = SimpleQueue()

    def add(self, question: Reply | Future[Reply]) -> None:
        """Add the next question: its reply, or what will be its reply."""
        self._questions.append(question)
        if isinstance(question, Reply):
            self._progress.add(known=True)
        else:
            self._running += 1
            question.add_done_callback(self._finished.put)

    def take(self) -> Iterator[Reply]:
        """Give the replies that are next, and wait until there is room for another question."""
        yield from self._ready()
        while self._running >= self._concurrency or len(self._questions) >= AHEAD:
            self._wait()
            yield from self._ready()

    def take_all(self) -> Iterator[Reply]:
        """Give all replies that are still to come."""
        while self._questions:
            yield from self._ready()
            if self._questions:
                self._wait()
        self._progress.tell()

    def _ready(self) -> Iterator[Reply]:
        while self._questions:
            first = self._questions[0]
            if isinstance(first, Future):
                if not first.done():
                    break
                first = first.result()
            self._questions.popleft()
            yield first

    def _wait(self) -> None:
        """Wait until a question under way has ended; meanwhile say how far all of it is."""
        while True:
            try:
                self._finished.get(timeout=self._progress.due_s)
                break
            except Empty:
                self._progress.tell()
        self._running -= 1
        self._progress.add()


@asynccontextmanager
async def _line(client: Client, pace: Pace, cache: AnswerCache | None) -> AsyncIterator[_Line]:
    async with asynchronous(client) as http:
        yield _Line(http, pace, client.max_retries, cache)


@dataclass(frozen=True)
class _Line:
    """Sends requests; lives in the event loop."""

    http: openai.AsyncOpenAI
    pace: Pace
    retries: int
    """Of one request, and of all of them together where the provider is overloaded."""
    cache: AnswerCache | None

    async def ask(self, key: bytes, body: bytes) -> Reply:
        """Return the reply, and keep it."""
        failures = 0
        while (reply := await self._attempt(body, failures)) is None:
            failures += 1
        if self.cache:
            self.cache.put(key, reply)
        return reply

    async def _attempt(self, body: bytes, failures: int) -> Reply | None:
        """Send the request once; None, after a pause, where that failed and may not fail again."""
        async with self.pace.turn() as began:
            try:
                return await self._send(body)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as refused:
                return Reply(None, error=message(refused))
            except openai.APIError as failed:
                error = failed
            if overloaded := _is_overload(error):
                self.pace.refused(began, pause(error, self.pace.refusals + 1))
        if (self.pace.refusals if overloaded else failures + 1) > self.retries or not may_pass(error):
            raise error
        if not overloaded:
            await asyncio.sleep(pause(error, failures + 1))
        return None

    async def _send(self, body: bytes) -> Reply:
        began = time.perf_counter()
        # The SDK's objects take longer to build than all the rest of a request.
        response = await self.http.post(
            "/chat/completions",
            content=body,
            cast_to=httpx2.Response,
            options={"headers": {"Content-Type": "application/json"}},
        )
        latency = time.perf_counter() - began
        self.pace.answered()
        return read_reply(_parsed(response.content), latency)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _is_overload(error: openai.APIError) -> bool:
    return isinstance(error, openai.APIStatusError) and error.status_code in _OVERLOADED
